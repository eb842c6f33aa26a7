"""ScatterMoE's idea (Tan et al. 2024): gather inside the product, scatter out of it.

The rows of an expert are taken in tiles small enough to stay in cache between the two products. There is no padded and
no grouped copy of the input, and no buffer of N output rows: each tile is added to its tokens as it is made.

Backward keeps x and the pre-activations, T * D + N * U elements, and recomputes the rest; the gradient of a gate weight
is taken as <a, dy W_down>, so the output of the down projection is never stored (SonicMoE, Guo et al. 2025).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..activations import activate, activate_, activate_backward
from ..kernel import Config, Cost, Kernel, Layer, dropless, one_rank, unscaled
from ..problem import ELEMENT_BYTES, Problem
from ..routing import Groups, Routing, group_by_expert
from ..tensors import Weights

DEFAULT_TILE = 512


class Scatter(Kernel):
    """Tiles of ``tile`` rows of one expert at a time."""

    family = "scatter"

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        return one_rank(problem) or dropless(problem) or unscaled(problem)

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        return [{"tile": tile} for tile in (DEFAULT_TILE, 128, 256, 1024, 2048)]

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        tile = int(config["tile"])

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            biases = (weights.b_up_EU, weights.b_down_ED)
            operands = (x_TD, routing.gates_TK, weights.w_up_EUD, weights.w_down_EDF, *biases)
            if torch.is_grad_enabled() and any(operand is not None and operand.requires_grad for operand in operands):
                return _Scatter.apply(problem, tile, routing, *operands)  # type: ignore[no-untyped-call,no-any-return]
            return _forward(problem, tile, group_by_expert(routing), None, *operands)

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        counts_E = routing.counts_E()
        kept, tile = int(counts_E.sum()), min(int(config["tile"]), int(counts_E.max()))
        element = ELEMENT_BYTES[problem.dtype]
        workspace = 4 * problem.T * problem.D + tile * (2 * problem.D + problem.U) * element
        if problem.mode == "train":
            workspace += kept * problem.U * element + tile * 4 * problem.U * element
        return Cost(executed_rows=kept, workspace_bytes=workspace)


def _tiles(groups: Groups, tile: int) -> Iterator[tuple[int, slice]]:
    """(expert, rows) of every tile, in expert order."""
    for e, start, end in groups.slices():
        for first in range(start, end, tile):
            yield e, slice(first, min(first + tile, end))


def _forward(
    problem: Problem,
    tile: int,
    groups: Groups,
    h_NU: Tensor | None,
    x_TD: Tensor,
    gates_TK: Tensor,
    w_up_EUD: Tensor,
    w_down_EDF: Tensor,
    b_up_EU: Tensor | None,
    b_down_ED: Tensor | None,
) -> Tensor:
    """y; the pre-activations are left in ``h_NU`` when it is given."""
    token_N = groups.token_N
    gates_N1 = gates_TK.flatten()[groups.route_N, None]
    y_TD = torch.zeros(x_TD.shape, dtype=torch.float32, device=x_TD.device)
    rows = min(tile, max(groups.counts, default=0))
    x_BD, y_BD = x_TD.new_empty(rows, problem.D), x_TD.new_empty(rows, problem.D)
    h_BU = x_TD.new_empty(rows, problem.U)
    weighted_BD = y_TD.new_empty(rows, problem.D)
    for e, n in _tiles(groups, tile):
        size = n.stop - n.start
        x_nD = torch.index_select(x_TD, 0, token_N[n], out=x_BD[:size])
        h_nU = _linear(x_nD, w_up_EUD, b_up_EU, e, out=h_BU[:size])
        if h_NU is not None:
            h_NU[n] = h_nU
        y_nD = _linear(activate_(problem, h_nU), w_down_EDF, b_down_ED, e, out=y_BD[:size])
        y_TD.index_add_(0, token_N[n], torch.mul(y_nD, gates_N1[n], out=weighted_BD[:size]))
    return y_TD.to(x_TD.dtype)


def _linear(rows: Tensor, weights: Tensor, biases: Tensor | None, e: int, *, out: Tensor) -> Tensor:
    if biases is None:
        return torch.mm(rows, weights[e].T, out=out)
    return torch.addmm(biases[e], rows, weights[e].T, out=out)


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
        tile: int,
        routing: Routing,
        x_TD: Tensor,
        gates_TK: Tensor,
        w_up_EUD: Tensor,
        w_down_EDF: Tensor,
        b_up_EU: Tensor | None,
        b_down_ED: Tensor | None,
    ) -> Tensor:
        groups = group_by_expert(routing)
        h_NU = x_TD.new_empty(groups.route_N.numel(), problem.U)
        ctx.save_for_backward(x_TD, gates_TK, w_up_EUD, w_down_EDF, b_up_EU, b_down_ED, h_NU)
        ctx.problem, ctx.tile, ctx.groups = problem, tile, groups
        return _forward(problem, tile, groups, h_NU, x_TD, gates_TK, w_up_EUD, w_down_EDF, b_up_EU, b_down_ED)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_TD: Tensor) -> tuple[Tensor | None, ...]:
        x_TD, gates_TK, w_up_EUD, w_down_EDF, b_up_EU, b_down_ED, h_NU = ctx.saved_tensors
        groups: Groups = ctx.groups
        token_N = groups.token_N
        gates_N1 = gates_TK.flatten()[groups.route_N, None]
        dx_TD = torch.zeros(x_TD.shape, dtype=torch.float32, device=x_TD.device)
        dgates_N = torch.zeros(gates_TK.numel(), dtype=torch.float32, device=x_TD.device)
        dw_up_EUD, dw_down_EDF = torch.zeros_like(w_up_EUD), torch.zeros_like(w_down_EDF)
        db_up_EU, db_down_ED = _zeros_like(b_up_EU), _zeros_like(b_down_ED)
        for e, n in _tiles(groups, ctx.tile):
            dy_nD = dy_TD[token_N[n]]
            a_nF = activate(ctx.problem, h_NU[n])
            da_nF = dy_nD @ w_down_EDF[e]
            dgate_n = (a_nF * da_nF).sum(1, dtype=torch.float32)
            dgates_N[groups.route_N[n]] = dgate_n if b_down_ED is None else dgate_n + dy_nD @ b_down_ED[e]
            dw_down_EDF[e].addmm_(dy_nD.mul_(gates_N1[n]).T, a_nF)
            dh_nU = activate_backward(ctx.problem, h_NU[n], da_nF.mul_(gates_N1[n]))
            dw_up_EUD[e].addmm_(dh_nU.T, x_TD[token_N[n]])
            if db_up_EU is not None and db_down_ED is not None:
                db_up_EU[e] += dh_nU.sum(0, dtype=torch.float32)
                db_down_ED[e] += dy_nD.sum(0, dtype=torch.float32)
            dx_TD.index_add_(0, token_N[n], (dh_nU @ w_up_EUD[e]).float())
        dx_TD = dx_TD.to(x_TD.dtype)
        dgates_TK = dgates_N.view_as(gates_TK)
        return None, None, None, dx_TD, dgates_TK, dw_up_EUD, dw_down_EDF, db_up_EU, db_down_ED


def _zeros_like(bias: Tensor | None) -> Tensor | None:
    """Where the gradient of a bias is summed: in float32, which autograd rounds to the dtype of the bias."""
    return None if bias is None else torch.zeros_like(bias, dtype=torch.float32)


kernel = Scatter()
