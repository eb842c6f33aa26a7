"""Experts applied to rows that lie sorted by expert, as a token dispatcher leaves them."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ...kernels.module.apply_experts import apply_experts
from ...kernels.problem import Problem
from ...kernels.problem.tensors import Weights
from .joined_weights import joined, not_kept

SIZES = 64  # layers of one model are alike: a few sizes at most


def apply_to_sorted_rows(
    gate_EFD: Tensor, up_EFD: Tensor, down_EDF: Tensor, x_RD: Tensor, counts_E: Tensor, *, dispatch: str
) -> Tensor:
    """Return down(silu(gate x) · up x) of every row by the expert that it lies with; all are of one dtype.

    The first ``counts_E[0]`` rows belong to expert 0, the next ``counts_E[1]`` to expert 1, and so on; rows after them
    belong to none and give zero. ``dispatch`` names a kernel, or is ``auto``. The result is (R, D), differentiable in
    the rows and in the three weights. Nothing is read on the host: no call waits for a GPU.
    """
    E, F, D = gate_EFD.shape
    rows = torch.arange(x_RD.shape[0], device=x_RD.device, dtype=torch.int32)
    ends_E = torch.cumsum(counts_E, dim=0, dtype=torch.int32)
    ids_R1 = torch.searchsorted(ends_E, rows, right=True, out_int32=True).unsqueeze(1)  # E, no expert, after the last
    gates_R1 = torch.ones((x_RD.shape[0], 1), device=x_RD.device)
    up_EUD = joined(gate_EFD, up_EFD)
    with not_kept(up_EUD, gate_EFD, up_EFD):
        weights = Weights(w_up_EUD=up_EUD, w_down_EDF=down_EDF)
        return apply_experts(_problem(D, F, E), weights, x_RD, ids_R1, gates_R1, dispatch=dispatch)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch has no types for it
def _problem(D: int, F: int, E: int) -> Problem:
    """Return the problem of these experts; a graph holds it, and not how its fields are checked."""
    return _made(D, F, E)


@lru_cache(maxsize=SIZES)
def _made(D: int, F: int, E: int) -> Problem:
    return Problem(T=0, D=D, F=F, E=E, K=1, activation="silu", gated=True, router="softmax_topk")
