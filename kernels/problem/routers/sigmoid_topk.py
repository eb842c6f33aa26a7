"""Sigmoid scores, top k by score plus a correction bias, optionally within groups (DeepSeek-V3, Kimi-K2, GLM-4.5).

DeepSeek-AI 2024, "DeepSeek-V3 Technical Report", section 2.1.2: equations 12 to 16 and node-limited routing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..router import parameter
from ..topk_rule import GroupedTopk, TopkRule

if TYPE_CHECKING:
    from torch import Tensor

BEST = 2  # a group is ranked by the sum of so many scores: K_r / M of the report, as its released code has it


@dataclass(frozen=True)
class SigmoidTopk(GroupedTopk):
    """A token's score for an expert is the sigmoid of the logit; score plus bias selects, the score alone is weighted.

    A group is ranked by the sum of its two best selection scores. Gates are divided by their sum if ``renormalise``,
    then multiplied by ``scale``.
    """

    renormalise: bool = True
    scale: float = parameter(1.0, least=1e-3, most=1e3)

    @property
    def rule(self) -> TopkRule:
        return TopkRule(
            score="sigmoid",
            groups=self.groups,
            top_groups=self.top_groups,
            group_best=BEST,
            renormalise=self.renormalise,
            scale=self.scale,
        )

    def probabilities(self, logits_TE: Tensor) -> Tensor:
        """Return s / Σ s, as equation 18 of the report has it."""
        score_TE = logits_TE.float().sigmoid()
        return score_TE / score_TE.sum(-1, keepdim=True)


router = SigmoidTopk
