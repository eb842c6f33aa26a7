"""The one expert of the token's id, from a router that was frozen after a first stage (Dai et al. 2022, StableMoE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..load import Load
from ..router import Router, RouterInputs
from ..topk_rule import TopkRule, weigh

if TYPE_CHECKING:
    from torch import Tensor

    from ..problem import Problem

SEED = 1  # of a table that stands for what a first stage would have distilled
RULE = TopkRule(score="sigmoid")


@dataclass(frozen=True)
class FrozenLookup(Router):
    """The expert is a fixed function of the id, and the gate the sigmoid of its logit: the paper's second stage.

    A distilled router is one of word embeddings, which its stage 2 never trains: a table. Here it is a random one, with
    each expert equally likely for an id, of 32,768 ids; larger ones are taken modulo that. Each gate is at most 1.
    """

    reads_token_ids: ClassVar[bool] = True

    @property
    def follows_load(self) -> bool:
        return False

    def refuses(self, problem: Problem) -> str | None:
        if problem.K != 1:
            return f"takes one expert per token, not K = {problem.K}: give K = 1"
        if Load.parse(problem.load).empty_experts(problem.E):
            return f"knows no experts that load = {problem.load!r} never uses: give another load"
        return None

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        from ._tables import random_experts

        tokens_T = inputs.tokens()
        ids_TK = random_experts(tokens_T, inputs.logits_TE.shape[1], K, seed=SEED)
        return ids_TK, weigh(RULE, inputs.logits_TE, ids_TK.long())


router = FrozenLookup
