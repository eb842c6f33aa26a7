"""Sigmoid scores, top k by score plus a correction bias, optionally within groups (DeepSeek-V3, Kimi-K2, GLM-4.5).

DeepSeek-AI 2024, "DeepSeek-V3 Technical Report", section 2.1.2: equations 12 to 16 and node-limited routing.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..parametrised import parameter
from ..topk_rule import GroupedTopk, TopkRule

BEST = 2  # a group is ranked by the sum of so many scores: K_r / M of the report, as its released code has it
MOST_SHARED = 64


@dataclass(frozen=True)
class SigmoidTopk(GroupedTopk):
    """A token's score for an expert is the sigmoid of the logit; score plus bias selects, the score alone is weighted.

    A group is ranked by the sum of its two best selection scores. Weights are divided by their sum if ``renormalise``,
    then multiplied by ``scale``. Balance losses use s / Σ s (equations 17 to 20 of the report). Gates add up to
    ``scale`` if ``renormalise``, else each is at most ``scale``.

    The router of Inkling has further logits for ``shared_experts`` that run for every token: their weights count in the
    sum (as transformers 5 computes it).
    """

    renormalise: bool = True
    scale: float = parameter(1.0, least=1e-3, most=1e3)
    shared_experts: int = parameter(0, least=0, most=MOST_SHARED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shared_experts and not self.renormalise:
            raise ValueError(f"shared_experts = {self.shared_experts} changes a sum only: give renormalise=true")

    @property
    def rule(self) -> TopkRule:
        return TopkRule(
            score="sigmoid",
            groups=self.groups,
            top_groups=self.top_groups,
            group_best=BEST,
            renormalise=self.renormalise,
            scale=self.scale,
            shared=self.shared_experts,
        )


router = SigmoidTopk
