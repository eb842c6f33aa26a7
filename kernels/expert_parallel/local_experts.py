"""The experts that a rank holds, multiplied by any implementation for one rank that skips routes of −1."""

from __future__ import annotations

import torch
from torch import Tensor

from ..catalog import KERNELS
from ..instruments.stage import stage
from ..kernel import Kernel
from ..problem import Problem
from ..problem.router import Router
from ..problem.routing import NO_ROUTE, Routing
from ..problem.tensors import Weights


def candidates(device: torch.device) -> tuple[str, ...]:
    """Return the names of the implementations to choose from, the default first (`Kernel.preference`)."""
    return tuple(kernel.name for kernel in KERNELS.preferred("cpu" if device.type == "cpu" else "cuda"))


def local_problem(problem: Problem, *, rows: int, experts: int) -> Problem:
    """Return the problem of ``experts`` experts on ``rows`` rows, on one rank."""
    K = min(problem.K, experts)
    router = Router.parse(problem.router).for_fewer_experts().spec
    return problem.replace(
        T=rows, E=experts, K=K, ranks=1, capacity_factor=None, load="uniform", wire=None, router=router
    )


class LocalExperts:
    """``kernel``'s layer for a few of all experts; ``problem`` is one of `local_problem`."""

    def __init__(self, kernel: Kernel, problem: Problem, device: torch.device) -> None:
        self._count = problem.E
        self._layer = kernel.build_for_any_routes(problem, kernel.space(problem, device)[0], device)

    def __call__(self, x_MD: Tensor, ids_Mk: Tensor, gates_Mk: Tensor, number_E: Tensor, weights: Weights) -> Tensor:
        """Sum the results of each row's routes to these experts, (M, D).

        ``number_E`` int32 is the place in ``weights`` of each expert, −1 for those that are not among them.
        """
        with stage("dispatch"):
            ids_Mk = renumbered(ids_Mk, number_E)
            if ids_Mk.shape[1] > self._count:
                ids_Mk, gates_Mk = by_expert(ids_Mk, gates_Mk, self._count)
        return self._layer(x_MD, Routing(ids_TK=ids_Mk, gates_TK=gates_Mk, experts=self._count), weights)


def by_expert(ids_Mk: Tensor, gates_Mk: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """Return ids and gates (M, experts), a column for every expert: the gates of equal ids are added up."""
    number_E = torch.arange(experts, dtype=torch.int32, device=ids_Mk.device)
    chosen_MkE = ids_Mk[:, :, None] == number_E
    gates_ME = torch.where(chosen_MkE, gates_Mk[:, :, None], 0).sum(1)
    return torch.where(chosen_MkE.any(1), number_E, NO_ROUTE), gates_ME


def local_numbers(chosen_n: Tensor, experts: int) -> Tensor:
    """Return the index of each expert among the chosen ones, int32 (E,), −1 for the others."""
    number_E = torch.full((experts,), NO_ROUTE, dtype=torch.int32, device=chosen_n.device)
    number_E[chosen_n] = torch.arange(len(chosen_n), dtype=torch.int32, device=chosen_n.device)
    return number_E


def renumbered(ids_TK: Tensor, number_E: Tensor) -> Tensor:
    """Return the local number of each route's expert, int32 of the shape of the ids, −1 where there is none."""
    return torch.where(ids_TK == NO_ROUTE, NO_ROUTE, number_E[ids_TK.clamp(min=0).long()])
