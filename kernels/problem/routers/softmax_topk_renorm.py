"""Softmax over all experts, then the top k probabilities divided by their sum (Mixtral, Qwen3, DBRX, ERNIE-4.5)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ..topk_rule import TopkRule
from .softmax_topk import SoftmaxTopk


@dataclass(frozen=True)
class SoftmaxTopkRenorm(SoftmaxTopk):
    """Probability plus bias selects, the probability alone is weighted (Jiang et al. 2024, "Mixtral of Experts").

    ERNIE-4.5 has selection biases. Gates add up to ``scale``.
    """

    @property
    def rule(self) -> TopkRule:
        return dataclasses.replace(super().rule, renormalise=True)


router = SoftmaxTopkRenorm
