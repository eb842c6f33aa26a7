"""Top k with the rows of every expert rounded to full tiles (Guo et al. 2025, SonicMoE, token rounding)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..parametrised import choice, parameter
from ..router import Router, RouterInputs
from ..topk_rule import TopkRule, choose
from ._chosen_pairs import routes_of_pairs

if TYPE_CHECKING:
    from torch import Tensor

RULE = TopkRule(score="softmax")


@dataclass(frozen=True)
class TokenRounding(Router):
    """An expert with f rows by top k takes f rounded to a multiple of ``tile``: it loses or gains its nearest tokens.

    Experts rank tokens by probability less 1 where the token did not choose them, so that a token's own choices come
    first. Weights are probabilities over the sum of the token's own K. An expert takes at most all tokens. It is meant
    for a mean of two tiles per expert or more: below, ``nearest`` takes many experts' rows to 0. Each gate is at most
    1.
    """

    tile: int = parameter(128, least=1, most=4096)
    rounding: str = choice("nearest", "up", "down")

    of_batch: ClassVar[bool] = True

    @property
    def leaves_out(self) -> bool:
        return True

    @property
    def follows_load(self) -> bool:
        return False

    def rounded(self, counts_E: Tensor) -> Tensor:
        """Return the rows that experts take in place of ``counts_E`` int64: the nearest multiple, half upwards."""
        added = {"nearest": self.tile // 2, "up": self.tile - 1, "down": 0}[self.rounding]
        return (counts_E + added) // self.tile * self.tile

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        import torch

        logits_TE = inputs.logits_TE
        probability_TE = logits_TE.float().softmax(-1)
        own_TK = choose(RULE, logits_TE, inputs.bias_E, K)
        own_TE = torch.zeros_like(probability_TE, dtype=torch.bool).scatter(-1, own_TK, value=True)
        score_TE = probability_TE.detach().double() - (~own_TE).double()
        order_TE = score_TE.sort(dim=0, descending=True, stable=True).indices
        place_TE = torch.empty_like(order_TE).scatter_(
            0, order_TE, torch.arange(len(order_TE), device=order_TE.device)[:, None].expand_as(order_TE)
        )
        chosen_TE = (place_TE < self.rounded(own_TE.sum(0))) & (own_TE | ~logits_TE.isneginf())
        sum_T1 = probability_TE.gather(-1, own_TK).sum(-1, keepdim=True)
        return routes_of_pairs(chosen_TE, probability_TE / sum_T1)


router = TokenRounding
