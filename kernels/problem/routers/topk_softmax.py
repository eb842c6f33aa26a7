"""The top k logits, then the softmax over these alone (gpt-oss, Granite, JetMoE, Aria).

Shazeer et al. 2017, "Outrageously Large Neural Networks", equations 3 and 5, without noise.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..topk_rule import TopkRouter, TopkRule


@dataclass(frozen=True)
class TopkSoftmax(TopkRouter):
    """Weights are exp(z) / Σ exp(z) over the chosen: those of `softmax_topk_renorm`. Gates add up to 1.

    A bias of the projection, as gpt-oss has it, is in the logits already: it selects and weighs.
    """

    @property
    def rule(self) -> TopkRule:
        return TopkRule(score="softmax", selects_logits=True, renormalise=True)


router = TopkSoftmax
