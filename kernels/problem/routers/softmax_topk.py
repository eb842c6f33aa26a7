"""Softmax over all experts, then the top k probabilities as they are (OLMoE, DeepSeek-V2, Qwen1.5-MoE)."""

from __future__ import annotations

from dataclasses import dataclass

from ..router import parameter
from ..topk_rule import GroupedTopk, TopkRule


@dataclass(frozen=True)
class SoftmaxTopk(GroupedTopk):
    """Gates are probabilities times ``scale``, and add up to at most that.

    A group is ranked by its largest probability (DeepSeek-AI 2024, "DeepSeek-V2", section 2.2.2).
    """

    scale: float = parameter(1.0, least=1e-3, most=1e3)

    @property
    def rule(self) -> TopkRule:
        return TopkRule(score="softmax", groups=self.groups, top_groups=self.top_groups, scale=self.scale)


router = SoftmaxTopk
