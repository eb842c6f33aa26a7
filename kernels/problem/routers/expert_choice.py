"""Experts choose their best tokens, equally many each (Zhou et al. 2022, "Mixture-of-Experts with Expert Choice")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..router import Router, RouterInputs
from ._chosen_pairs import routes_of_pairs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ExpertChoice(Router):
    """S = softmax(z) over the experts; each expert takes the C tokens with its largest S, which are the gates.

    C = T K / E (the paper's k = n c / e: its capacity factor c is K here), rounded to the nearest, at least 1. A token
    may have no expert or all of them. Of equal scores the earlier token comes first. Choices depend on later tokens.

    Gates add up to at most 1.
    """

    of_batch: ClassVar[bool] = True

    @property
    def leaves_out(self) -> bool:
        return True

    @property
    def follows_load(self) -> bool:
        return False

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        score_TE = inputs.logits_TE.float().softmax(-1)
        tokens, experts = score_TE.shape
        capacity = min(tokens, max(1, (2 * tokens * K + experts) // (2 * experts)))
        taken_CE = score_TE.detach().sort(dim=0, descending=True, stable=True).indices[:capacity]
        chosen_TE = score_TE.new_zeros(score_TE.shape).bool().scatter(0, taken_CE, value=True)
        return routes_of_pairs(chosen_TE & ~inputs.logits_TE.isneginf(), score_TE)


router = ExpertChoice
