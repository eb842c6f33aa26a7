"""Sigmoid scores, top k by score plus a correction bias, optionally within groups (DeepSeek-V3, Kimi-K2, GLM-4.5).

DeepSeek-AI 2024, "DeepSeek-V3 Technical Report", section 2.1.2: equations 12 to 16 and node-limited routing.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..load import Load
from ..router import Router, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from ..problem import Problem

BEST = 2  # a group is ranked by the sum of so many scores: K_r / M of the report, as its released code has it


@dataclass(frozen=True)
class SigmoidTopk(Router):
    """A token's score for an expert is the sigmoid of the logit; score plus bias selects, the score alone is weighted.

    With ``groups`` above 1 the experts form that many groups of equal size, and a token chooses within the
    ``top_groups`` that have the largest sums of their two best selection scores.

    In a trained model the biases are what balanced its load. Here they are drawn uniformly from −``bias`` to ``bias``,
    always the same for a number of experts. Gates are divided by their sum if ``renormalise``, then multiplied by
    ``scale``.
    """

    groups: int = parameter(1, least=1, most=4096)
    top_groups: int = parameter(1, least=1, most=4096)
    bias: float = parameter(0.0, least=0.0, most=100.0)
    renormalise: bool = True
    scale: float = parameter(1.0, least=1e-3, most=1e3)

    def __post_init__(self) -> None:
        if self.top_groups >= self.groups > 1:
            raise ValueError(f"top_groups = {self.top_groups} of groups = {self.groups} limits nothing: leave out both")
        if self.top_groups > self.groups:
            raise ValueError(f"top_groups = {self.top_groups} of groups = {self.groups}: give more groups")

    def refuses(self, problem: Problem) -> str | None:
        if self.groups == 1:
            return None
        E, K, size = problem.E, problem.K, problem.E // self.groups
        if E % self.groups or size < BEST:
            return f"needs {BEST} experts or more in each of {self.groups} equal groups, not E = {E}: give other groups"
        if self.top_groups * size < K:
            return f"leaves {self.top_groups * size} experts to a token, not K = {K}: give more top_groups"
        if Load.parse(problem.load).empty_experts(E):
            return f"may choose a group of experts that load = {problem.load!r} never uses: give groups = 1"
        return None

    @property
    def follows_load(self) -> bool:
        return self.groups == 1 and not self.bias

    def for_fewer_experts(self) -> Router:
        return dataclasses.replace(self, groups=1, top_groups=1)

    def route(self, logits_TE: Tensor, K: int) -> tuple[Tensor, Tensor]:
        experts = logits_TE.shape[1]
        drawn_E = np.random.default_rng(0).uniform(-self.bias, self.bias, experts)
        biases_E = logits_TE.new_tensor(drawn_E.astype(np.float32))
        ids_TK = choose(logits_TE, biases_E, K, groups=self.groups, top_groups=self.top_groups)
        return ids_TK.int(), self._gates(logits_TE.gather(-1, ids_TK))

    def _gates(self, logits_TK: Tensor) -> Tensor:
        from torch.nn.functional import logsigmoid  # noqa: PLC0415  # problems are made where torch is not wanted

        log_TK = logsigmoid(logits_TK.double())  # softmax of it divides scores by their sum even where all are near 0
        gates_TK = log_TK.softmax(dim=-1) if self.renormalise else log_TK.exp()
        return (gates_TK * self.scale).float()


def choose(logits_TE: Tensor, biases_E: Tensor, K: int, *, groups: int, top_groups: int) -> Tensor:
    """Return the ids, int64 (T, K), of the experts with the largest selection scores within the best groups.

    Of equal selection scores the larger logit comes first, then the lower index: far from 0 the scores of different
    logits are equal in float32.
    """
    # In float64, then rounded: equal logits have equal scores, whichever instruction computed them.
    score_TE = logits_TE.detach().double().sigmoid().float() + biases_E
    score_TE = score_TE.masked_fill(logits_TE.isneginf(), -math.inf)
    if groups > 1:
        best_TG = score_TE.unflatten(-1, (groups, -1)).topk(BEST, dim=-1).values.sum(-1)
        kept_TG = best_TG.sort(dim=-1, descending=True, stable=True).indices[:, :top_groups]
        left_out_TG = best_TG.new_ones(best_TG.shape).bool().scatter(-1, kept_TG, value=False)
        left_out_TE = left_out_TG.repeat_interleave(logits_TE.shape[1] // groups, dim=-1)
        score_TE = score_TE.masked_fill(left_out_TE, -math.inf)
    by_logit_TE = logits_TE.sort(dim=-1, descending=True, stable=True).indices
    order_TE = score_TE.gather(-1, by_logit_TE).sort(dim=-1, descending=True, stable=True).indices
    return by_logit_TE.gather(-1, order_TE[:, :K])


router = SigmoidTopk
