"""Scores that are square roots of softplus, top k by score plus a correction bias, renormalised (DeepSeek-V4).

The score of a logit z is sqrt(log(1 + exp z)), as the model's code in transformers 5 has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..parametrised import parameter
from ..topk_rule import BiasedTopk, TopkRule


@dataclass(frozen=True)
class SqrtSoftplusTopk(BiasedTopk):
    """Score plus bias selects, the score alone is weighted, over the sum of the chosen. Gates add up to ``scale``."""

    scale: float = parameter(1.0, least=1e-3, most=1e3)

    @property
    def rule(self) -> TopkRule:
        return TopkRule(score="sqrt_softplus", renormalise=True, scale=self.scale)


router = SqrtSoftplusTopk
