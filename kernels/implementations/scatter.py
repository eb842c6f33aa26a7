"""ScatterMoE's method (Tan et al. 2024): gather inside the product, scatter out of it.

The rows of an expert are processed in tiles small enough to stay in cache between the two products. By default there is
no padded and no grouped copy of the input, and no buffer of N output rows: each tile is added to its tokens as soon as
it is computed. The space has other ways, which may be faster on a CPU.

The backward keeps x and the pre-activations, T * D + N * U elements, and recomputes the rest. The gradient of a gate
weight is computed as <a, dy W_down>, so the output of the down projection is never stored (SonicMoE, Guo et al. 2025).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby, product
from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..config import Config
from ..instruments.stage import stage
from ..kernel import Cost, Kernel, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import Groups, Routing, group_by_expert
from ..problem.tensors import Weights
from ..steps import Step
from ..torch_ops.activations import activate, activate_, activate_backward
from ..torch_ops.combine import row_dots
from ..torch_ops.scatter_tiles import (
    COMBINES,
    GATHERS,
    ORDERS,
    Operand,
    Rows,
    ScatterPlan,
    kept,
    reused,
    threads,
    tiles,
)

DEFAULT_TILE = 512
TILES = (DEFAULT_TILE, 64, 128, 256, 1024, 2048)


class Scatter(Kernel):
    """Products of one tile of at most ``tile`` rows of one expert at a time."""

    family = "scatter"
    adds_biases = True
    preference: ClassVar[Mapping[str, int]] = {"cpu": 10, "cuda": 50}

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        on_cpu: dict[str, Sequence[int | str]] = {"threads": _thread_counts(torch.get_num_threads())}
        axes: dict[str, Sequence[int | str]] = {
            "tile": TILES,
            "order": tuple(ORDERS),
            **(on_cpu if device.type == "cpu" else {}),
            "compute": ("native",) if problem.dtype == "float32" else ("native", "float32"),
            "gather": tuple(GATHERS),
            "combine": tuple(COMBINES),
        }
        return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]

    def fault(self, problem: Problem, config: Config, device: torch.device) -> str | None:
        """Refuse all but one of the tile heights that hold every expert's rows whole: they run the same code."""
        tile, whole = int(config["tile"]), [tile for tile in TILES if tile >= problem.T]
        same = DEFAULT_TILE if DEFAULT_TILE in whole else min(whole, default=tile)
        if tile not in whole or tile == same:
            return None
        return f"tiles of {tile} rows are no other than those of {same}: an expert has at most T = {problem.T}"

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        plan = ScatterPlan.of(problem, config)
        if plan.threads == torch.get_num_threads():
            plan = replace(plan, threads=None)  # all that the user lets it use, also where that changes later

        def layer(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            biases = (weights.b_up_EU, weights.b_down_ED)
            operands = (x_TD, routing.gates_TK, weights.w_up_EUD, weights.w_down_EDF, *biases)
            if torch.is_grad_enabled() and any(operand is not None and operand.requires_grad for operand in operands):
                return _Scatter.apply(problem, plan, routing, *operands)  # type: ignore[no-untyped-call,no-any-return]
            with threads(plan.threads):
                return _forward(problem, plan, routing, _grouped(routing), None, *operands)

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        plan, counts_E = ScatterPlan.of(problem, config), routing.counts_E()
        rows, tile = int(counts_E.sum()), min(plan.tile, int(counts_E.max()))
        element, stored = plan.dtype.itemsize, ELEMENT_BYTES[problem.dtype]
        gathered = rows if plan.gather == "all" else tile
        put = rows * element if plan.combine == "bag" else 4 * problem.T + tile * (element + 4)
        workspace = (gathered * problem.D + (rows if plan.order == "product" else tile) * problem.U) * element
        workspace += put * problem.D
        weights = problem.D * (problem.U + problem.F)
        if element != stored:
            workspace += (weights + problem.T * problem.D) * element
        if problem.mode == "train":
            workspace += rows * problem.U * stored + (gathered * problem.D + tile * 4 * problem.U) * element
            if stored < 4 and (element != stored or plan.tile < int(counts_E.max())):
                workspace += 4 * weights  # sums over tiles, in float32
        return Cost(executed_rows=rows, workspace_bytes=workspace)

    def steps(self, problem: Problem, config: Config, routing: Routing, device: torch.device) -> Sequence[Step]:
        if device.type != "cpu":
            return ()
        from ..cost_model.expert_rows import rows_of_experts
        from ..cost_model.scatter_steps import ScatterCall

        counts = rows_of_experts(routing)
        plan, cores = ScatterPlan.of(problem, config), torch.get_num_threads()
        return ScatterCall(problem=problem, plan=plan, counts=counts, cores=cores).steps()


def _thread_counts(present: int) -> list[int]:
    """Return the number that torch uses at present, then the powers of two below it."""
    return [present, *(1 << power for power in range((present - 1).bit_length()))]


def _forward(
    problem: Problem,
    plan: ScatterPlan,
    routing: Routing,
    groups: Groups,
    h_NU: Tensor | None,
    x_TD: Tensor,
    gates_TK: Tensor,
    w_up_EUD: Tensor,
    w_down_EDF: Tensor,
    b_up_EU: Tensor | None,
    b_down_ED: Tensor | None,
) -> Tensor:
    """Compute y (T, D), and write the pre-activations to ``h_NU`` when it is given."""
    rows = min(plan.tile, max(groups.counts, default=0))
    with stage("dispatch"):
        operand_TD = x_TD.to(plan.dtype)
        x = GATHERS[plan.gather](operand_TD, groups.token_N, rows)
    with stage("combine"):
        y = COMBINES[plan.combine](operand_TD, routing, groups, gates_TK, rows)
    h = _hidden(plan, operand_TD, groups, rows, problem.U)
    w_up, w_down = Operand(w_up_EUD, plan.dtype), Operand(w_down_EDF, plan.dtype)

    def up(e: int, n: slice) -> None:
        with stage("up"):
            h_nU = _linear(x(n), w_up[e], b_up_EU, e, out=h(n))
            if h_NU is not None:
                h_NU[n] = h_nU
        activate_(problem, h_nU)

    def down(e: int, n: slice) -> None:
        with stage("down"):
            _linear(h(n)[:, : problem.F], w_down[e], b_down_ED, e, out=y.out(n))
        y.put(n)

    ORDERS[plan.order](tiles(groups, plan.tile), up, down)
    with stage("combine"):
        return y.sum().to(x_TD.dtype)


def _grouped(routing: Routing) -> Groups:
    with stage("dispatch"):
        return group_by_expert(routing)


def _hidden(plan: ScatterPlan, like: Tensor, groups: Groups, rows: int, width: int) -> Rows:
    """Return the memory in which hidden rows are kept until their second product."""
    if plan.order == "expert":
        return reused(like.new_empty(rows, width))
    return kept(like.new_empty(groups.route_N.numel(), width))


def _linear(rows: Tensor, weights: Tensor, biases: Tensor | None, e: int, *, out: Tensor) -> Tensor:
    if biases is None:
        return torch.mm(rows, weights.T, out=out)
    return torch.addmm(biases[e].to(rows.dtype), rows, weights.T, out=out)


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
        plan: ScatterPlan,
        routing: Routing,
        x_TD: Tensor,
        gates_TK: Tensor,
        w_up_EUD: Tensor,
        w_down_EDF: Tensor,
        b_up_EU: Tensor | None,
        b_down_ED: Tensor | None,
    ) -> Tensor:
        operands = (x_TD, gates_TK, w_up_EUD, w_down_EDF, b_up_EU, b_down_ED)
        with threads(plan.threads):
            groups = _grouped(routing)
            h_NU = x_TD.new_empty(groups.route_N.numel(), problem.U)
            ctx.save_for_backward(*operands, h_NU)
            ctx.problem, ctx.plan, ctx.routing, ctx.groups = problem, plan, routing, groups
            return _forward(problem, plan, routing, groups, h_NU, *operands)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_TD: Tensor) -> tuple[Tensor | None, ...]:
        with threads(ctx.plan.threads):
            return None, None, None, *_backward(ctx, dy_TD)


def _backward(ctx: Any, dy_TD: Tensor) -> tuple[Tensor | None, ...]:
    """Compute the gradients of the operands of `_forward`."""
    x_TD, gates_TK, w_up_EUD, w_down_EDF, b_up_EU, b_down_ED, h_NU = ctx.saved_tensors
    problem: Problem = ctx.problem
    plan: ScatterPlan = ctx.plan
    groups: Groups = ctx.groups
    gates_N1 = gates_TK.flatten()[groups.route_N, None]
    rows = min(plan.tile, max(groups.counts, default=0))
    gather = GATHERS[plan.gather]
    x = gather(x_TD.to(plan.dtype), groups.token_N, rows)
    dy = gather(dy_TD.to(plan.dtype), groups.token_N, rows)
    dx = COMBINES[plan.combine](x_TD.to(plan.dtype), ctx.routing, groups, torch.ones_like(gates_TK), rows)
    w_up, w_down = Operand(w_up_EUD, plan.dtype), Operand(w_down_EDF, plan.dtype)
    dgates_N = torch.zeros(gates_TK.numel(), dtype=torch.float32, device=x_TD.device)
    dw_up_EUD, dw_down_EDF = torch.zeros_like(w_up_EUD), torch.zeros_like(w_down_EDF)
    db_up_EU, db_down_ED = _zeros_like(b_up_EU), _zeros_like(b_down_ED)
    for e, of_expert in groupby(tiles(groups, plan.tile), key=itemgetter(0)):
        # Zeros: a view of the result, or a float32 copy where several tiles would each round the sum.
        exact = plan.dtype if groups.counts[e] <= plan.tile else torch.float32
        dw_up_UD, dw_down_DF = dw_up_EUD[e].to(exact), dw_down_EDF[e].to(exact)
        for _, n in of_expert:
            dy_nD, h_nU, back_n1 = dy(n), h_NU[n].to(plan.dtype), gates_N1[n]
            a_nF = activate(problem, h_nU)
            scale_n1 = _scales(dy_nD) if plan.dtype == torch.float16 else None
            da_nF = (dy_nD if scale_n1 is None else (dy_nD / scale_n1).to(plan.dtype)) @ w_down[e]
            dgate_n = row_dots(a_nF, da_nF)
            if scale_n1 is not None:
                dgate_n, back_n1 = dgate_n * scale_n1[:, 0], back_n1 * scale_n1
            dgates_N[groups.route_N[n]] = (
                dgate_n if b_down_ED is None else dgate_n + dy_nD.float() @ b_down_ED[e].float()
            )
            _add_product(dw_down_DF, dy_nD.mul_(gates_N1[n]).T, a_nF)
            dh_nU = activate_backward(problem, h_nU, da_nF.mul_(back_n1))
            _add_product(dw_up_UD, dh_nU.T, x(n))
            if db_up_EU is not None and db_down_ED is not None:
                db_up_EU[e] += dh_nU.sum(0, dtype=torch.float32)
                db_down_ED[e] += dy_nD.sum(0, dtype=torch.float32)
            torch.mm(dh_nU, w_up[e], out=dx.out(n))
            dx.put(n)
        dw_up_EUD[e], dw_down_EDF[e] = dw_up_UD, dw_down_DF
    dx_TD = dx.sum().to(x_TD.dtype)
    return dx_TD, dgates_N.view_as(gates_TK), dw_up_EUD, dw_down_EDF, db_up_EU, db_down_ED


def _scales(dy_nD: Tensor) -> Tensor:
    """Return the power of two (n, 1) by which each row is divided: the largest element comes between 0.5 and 1.

    The product of a row in float16 with the weights may pass 65,504, before its gate weight makes it smaller.
    """
    exponent_n1 = torch.frexp(dy_nD.float().abs().amax(1, keepdim=True)).exponent
    return torch.exp2(exponent_n1.float())


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to ``total``, which may have a wider dtype."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _zeros_like(bias: Tensor | None) -> Tensor | None:
    """Return zeros in which the gradient of a bias is summed in float32; autograd rounds it to the bias's dtype."""
    return None if bias is None else torch.zeros_like(bias, dtype=torch.float32)


kernel = Scatter()
