"""The top k logits, optionally with selection biases, then the sigmoid of each (Llama-4, Cohere's North, Kolibri-1).

Llama-4 takes the one expert with the largest logit. The formulas are those of the models' code in transformers 5.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..topk_rule import BiasedTopk, TopkRule


@dataclass(frozen=True)
class TopkSigmoid(BiasedTopk):
    """Logit plus bias selects, the sigmoid of the logit alone is weighted.

    Gates add up to 1 if ``renormalise``, else each is at most 1.
    """

    renormalise: bool = False

    @property
    def rule(self) -> TopkRule:
        return TopkRule(score="sigmoid", selects_logits=True, renormalise=self.renormalise)


router = TopkSigmoid
