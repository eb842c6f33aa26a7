"""DeepGEMM's two `m_grouped_bf16_gemm_nt_contiguous` with given routes, for Hopper and Blackwell: forward only.

Read at commit 54e2261 of deepseek-ai/DeepGEMM (version 2.6.1): `csrc/apis/gemm.hpp` and `tests/generators.py`. It takes
our weights as they are, rows sorted by expert with each expert's part padded to its alignment, and for every row the
expert's number, −1 for padding, whose results are left unwritten. Its products in float8 take scales of blocks of
128 × 128 weights; ours are of single rows, so they are not used.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ...common.packages import Release
from ..config import Config
from ..kernel import Cost, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import Routing
from ..problem.tensors import Weights
from ..torch_ops.activations import activate
from ..torch_ops.dispatch import Places, combine, dispatch
from ._peer import Peer, Takes, peer_module

ARCHITECTURES = (9, 10)  # major compute capabilities that it has kernels for
ALIGNMENT = 128  # its default; a user may set another one, which `build` asks for


class DeepGemm(Peer):
    """An adapter that copies tokens to rows, multiplies, activates, multiplies, and sums rows into tokens."""

    read_against: ClassVar[Release] = Release("deep_gemm", "2.6.1", "csrc/apis/gemm.hpp")
    modules = ("deep_gemm",)
    remedy = "pip install it from its repository, deepseek-ai/DeepGEMM, where nvcc is"
    takes: ClassVar[Takes] = {"mode": ("forward",), "dtype": ("bfloat16",), "bias": (False,)}
    step = 64  # its kernels for Hopper refuse other lengths of a sum
    capability = (9, 0)

    def missing(self, device: torch.device) -> str | None:
        reason = super().missing(device)
        if reason or (major := torch.cuda.get_device_capability(device)[0]) in ARCHITECTURES:
            return reason
        return f"{self.name} has kernels for compute capability 9 and 10, the device has {major}"

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        deep_gemm = peer_module("deep_gemm")
        alignment = int(deep_gemm.get_mk_alignment_for_contiguous_layout())
        rows = padded_rows(problem, alignment)

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            places, expert_M = _aligned(routing, rows, alignment)
            h_MU = _multiply(deep_gemm, dispatch(x_TD, places), weights.w_up_EUD, expert_M)
            y_MD = _multiply(deep_gemm, activate(problem, h_MU), weights.w_down_EDF, expert_M)
            return combine(y_MD, routing.gates_TK, places)

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        """Count the rows of the padded parts; blocks of padding behind them are skipped, but take memory."""
        counts_E = routing.counts_E()
        executed = int(((counts_E + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT).sum())
        elements = padded_rows(problem, ALIGNMENT) * self.row_width(problem)
        return Cost(executed_rows=executed, workspace_bytes=elements * ELEMENT_BYTES[problem.dtype])

    def row_width(self, problem: Problem) -> int:
        """Count the largest pair of tensors that exist together."""
        return max(problem.D + problem.U, problem.U + 2 * problem.F, problem.F + problem.D)


def padded_rows(problem: Problem, alignment: int) -> int:
    """Return the most rows that the padded parts of all experts together can have: the counts are on the device."""
    return (problem.N + min(problem.E, problem.N) * (alignment - 1)) // alignment * alignment


def _aligned(routing: Routing, rows: int, alignment: int) -> tuple[Places, Tensor]:
    """Return the places of the routes among padded rows, and the expert of each row, int32 (M,), −1 for padding."""
    counts_E = routing.counts_E()
    padded_E = (counts_E + alignment - 1) // alignment * alignment
    sorted_N, route_N = torch.sort(routing.ids_TK.flatten(), stable=True)
    # A row's place among those of its expert is its place among all less the rows of the experts before.
    shift_E = (padded_E.cumsum(0) - padded_E) - (counts_E.cumsum(0) - counts_E)
    row_N = torch.arange(len(route_N), device=route_N.device) + shift_E[sorted_N.long()]
    slot_TK = torch.empty_like(route_N).index_copy(0, route_N, row_N).view_as(routing.ids_TK)
    expert_M = torch.full((rows,), -1, dtype=torch.int32, device=route_N.device)
    expert_M[row_N] = sorted_N
    return Places.at(slot_TK, rows=rows), expert_M


def _multiply(deep_gemm: Any, rows_MI: Tensor, weight_EOI: Tensor, expert_M: Tensor) -> Tensor:
    out_MO = rows_MI.new_empty(len(rows_MI), weight_EOI.shape[1])
    deep_gemm.m_grouped_bf16_gemm_nt_contiguous(rows_MI, weight_EOI, out_MO, expert_M)
    return out_MO


kernel = DeepGemm()
