"""The balanced assignment of tokens to experts with the largest sum of scores (Lewis et al. 2021, BASE layers)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..load import Load
from ..router import Router, RouterInputs
from ..topk_rule import TopkRule, weigh

if TYPE_CHECKING:
    from torch import Tensor

    from ..problem import Problem

RULE = TopkRule(score="sigmoid")


@dataclass(frozen=True)
class Base(Router):
    """Every expert takes T / E tokens, such that the sum of the tokens' logits is largest, weighted by sigmoid(z).

    Where E does not divide T the first T mod E experts take one more. This is the paper's assignment in training; at
    inference it takes the best expert of each token, which is `topk_sigmoid`. The paper's layer, as fairseq has it,
    adds the weighted expert to the token. The host solves the assignment, exactly.

    Each gate is at most 1.
    """

    of_batch: ClassVar[bool] = True

    @property
    def follows_load(self) -> bool:
        return False

    def refuses(self, problem: Problem) -> str | None:
        if problem.K != 1:
            return f"assigns one expert to each token, not K = {problem.K}: give K = 1"
        if Load.parse(problem.load).empty_experts(problem.E):
            return f"gives every expert as many tokens, and load = {problem.load!r} leaves some without: give another"
        return None

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        import torch

        assign = _assigned
        if "torch._dynamo" in sys.modules:  # torch.compile may be at work, and cannot trace the solver
            assign = torch.compiler.disable(_assigned)
        ids_T1 = assign(inputs.logits_TE.detach())[:, None]
        return ids_T1.int(), weigh(RULE, inputs.logits_TE, ids_T1)


def _assigned(logits_TE: Tensor) -> Tensor:
    import torch

    from ._balanced_assignment import balanced_assignment

    ids_T = balanced_assignment(logits_TE.double().cpu().numpy())
    return torch.from_numpy(ids_T).to(logits_TE.device)


router = Base
