"""Softmax over all experts, then the top k probabilities as they are (OLMoE, DeepSeek-V2, Qwen1.5-MoE, LongCat)."""

from __future__ import annotations

from dataclasses import dataclass

from ..parametrised import parameter
from ..topk_rule import GroupedTopk, TopkRule


@dataclass(frozen=True)
class SoftmaxTopk(GroupedTopk):
    """Probability plus bias selects, the probability alone is weighted, times ``scale``.

    A group is ranked by the sum of its ``group_best`` largest selection scores: of 1 in DeepSeek-V2 (DeepSeek-AI 2024,
    "DeepSeek-V2", device-limited routing), of 2 in the code of Mistral's models in transformers 5. LongCat-Flash has
    biases and zero experts (Meituan 2025, "LongCat-Flash Technical Report", zero-computation experts). ZAYA1 has one
    zero expert, which returns nothing. Gates add up to at most ``scale``.
    """

    scale: float = parameter(1.0, least=1e-3, most=1e3)
    group_best: int = parameter(1, least=1, most=2)

    @property
    def rule(self) -> TopkRule:
        return TopkRule(
            score="softmax",
            groups=self.groups,
            top_groups=self.top_groups,
            group_best=self.group_best,
            scale=self.scale,
        )


router = SoftmaxTopk
