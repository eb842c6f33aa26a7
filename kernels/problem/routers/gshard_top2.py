"""The best expert and, at random, the second best (Lepikhin et al. 2020, GShard, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..router import Router, RouterInputs
from ..topk_rule import TopkRule, choose, weigh

if TYPE_CHECKING:
    from torch import Tensor

    from ..problem import Problem

CHOICES = 2
RULE = TopkRule(score="softmax", renormalise=True)


@dataclass(frozen=True)
class GShardTop2(Router):
    """Weights g are the two probabilities over their sum; the second is kept if 2 g_2 exceeds a uniform random number.

    A second expert with little weight is so left out more often. That second choices queue behind all first ones is
    the drop policy ``first_choices`` of the problem. Gates add up to at most 1.
    """

    @property
    def leaves_out(self) -> bool:
        return True

    def refuses(self, problem: Problem) -> str | None:
        return None if problem.K == CHOICES else f"takes two experts per token, not K = {problem.K}: give K = 2"

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        import torch

        ids_TK = choose(RULE, inputs.logits_TE, inputs.bias_E, K)
        gates_TK = weigh(RULE, inputs.logits_TE, ids_TK)
        uniform_T = torch.rand(len(gates_TK), generator=inputs.generator, device=gates_TK.device)
        left_out_T = 2 * gates_TK.detach()[:, 1] <= uniform_T
        ids_TK = ids_TK.int()
        ids_TK[:, 1] = ids_TK[:, 1].masked_fill(left_out_T, -1)
        return ids_TK, gates_TK


router = GShardTop2
