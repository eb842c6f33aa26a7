"""Experts by the token's id, from a table that is made before training (Roller et al. 2021, "Hash Layers")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from ..load import Load
from ..parametrised import choice, parameter
from ..router import Router, RouterInputs
from ..topk_rule import Score, TopkRule, weigh

if TYPE_CHECKING:
    from torch import Tensor

    from ..problem import Problem

SEED = 0


@dataclass(frozen=True)
class Hash(Router):
    """Every id has K distinct experts, by K random hashes, or balanced by greedy assignment.

    The table has 32,768 ids, and larger ones are taken modulo that.

    For K = 1 these are random hash and balanced assignment of the paper. Its MultiHash layers differ from K > 1: each
    hash takes one part of an expert's matrices. The balanced table is that of the built-in text's frequencies. Weights
    are equal as in the paper; or the experts' scores of the logits, divided by their sum (the hash layers of
    DeepSeek-V4 score by sqrt_softplus). Each gate is ``scale`` if ``gates`` is ``one``, else gates add up to ``scale``.
    """

    table: str = choice("random", "balanced")
    gates: str = choice("one", "softmax", "sigmoid", "sqrt_softplus")
    scale: float = parameter(1.0, least=1e-3, most=1e3)

    reads_token_ids: ClassVar[bool] = True

    @property
    def follows_load(self) -> bool:
        return False

    def shapes(self, *, D: int, E: int) -> dict[str, tuple[int, ...]]:
        return {} if self.gates == "one" else {"weight": (E, D)}

    def project(self, x_TD: Tensor, parameters: Mapping[str, Tensor], *, E: int) -> RouterInputs:
        if parameters:
            return super().project(x_TD, parameters, E=E)
        return RouterInputs(logits_TE=x_TD.new_zeros(1, 1).expand(len(x_TD), E))

    def refuses(self, problem: Problem) -> str | None:
        if Load.parse(problem.load).empty_experts(problem.E):
            return f"knows no experts that load = {problem.load!r} never uses: give another load"
        return None

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        import torch

        from ._tables import balanced_experts, random_experts

        experts, tokens_T = inputs.logits_TE.shape[1], inputs.tokens()
        if self.table == "balanced":
            ids_TK = balanced_experts(tokens_T, experts, K)
        else:
            ids_TK = random_experts(tokens_T, experts, K, seed=SEED)
        if self.gates == "one":
            return ids_TK, torch.full(ids_TK.shape, self.scale, device=ids_TK.device)
        rule = TopkRule(score=cast(Score, self.gates), renormalise=True, scale=self.scale)
        return ids_TK, weigh(rule, inputs.logits_TE, ids_TK.long())


router = Hash
