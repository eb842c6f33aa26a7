"""The tokens with the largest weight pass the one expert, the others skip it (Raposo et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..parametrised import parameter
from ..router import Router, RouterInputs

if TYPE_CHECKING:
    from torch import Tensor

    from ..problem import Problem


@dataclass(frozen=True)
class MixtureOfDepths(Router):
    """The C = ``share`` T of T tokens with the largest raw weight r take the expert, at least one; their gate is r.

    This is the expert-choice routing of "Mixture-of-Depths". The block adds its input: y = x + r f(x). C is rounded to
    the nearest, half upwards. Choices depend on later tokens. Gates are any numbers.
    """

    share: float = parameter(0.125, least=1e-6, most=1.0)

    of_batch: ClassVar[bool] = True

    @property
    def leaves_out(self) -> bool:
        return self.share < 1

    @property
    def follows_load(self) -> bool:
        return False

    def refuses(self, problem: Problem) -> str | None:
        return None if problem.E == 1 else f"has one expert, which tokens take or skip, not E = {problem.E}: give E = 1"

    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        import torch

        weight_T1 = inputs.logits_TE.float()
        taken = max(1, int(self.share * len(weight_T1) + 0.5))
        order_T1 = weight_T1.detach().sort(dim=0, descending=True, stable=True).indices
        ids_T1 = torch.full(weight_T1.shape, -1, dtype=torch.int32, device=weight_T1.device)
        ids_T1[order_T1[:taken, 0]] = 0
        return ids_T1, weight_T1


router = MixtureOfDepths
