"""The one most probable expert, weighted by its probability (Fedus et al. 2021, "Switch Transformers")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..topk_rule import TopkRouter, TopkRule

if TYPE_CHECKING:
    from ..problem import Problem


@dataclass(frozen=True)
class Switch(TopkRouter):
    """The router `softmax_topk` for K = 1 only. Each gate is at most 1."""

    @property
    def rule(self) -> TopkRule:
        return TopkRule(score="softmax")

    def refuses(self, problem: Problem) -> str | None:
        return None if problem.K == 1 else f"takes one expert per token, not K = {problem.K}: give K = 1"


router = Switch
