"""ScatterMoE's method (Tan et al. 2024): gather inside the product, scatter out of it.

The rows of an expert are processed in tiles small enough to stay in cache between the two products. By default there is
no padded and no grouped copy of the input, and no buffer of N output rows: each tile is added to its tokens as soon as
it is computed. The space has other ways, which may be faster on a CPU.

The backward keeps x and the pre-activations, T * D + N * U elements, and recomputes the rest. The gradient of a gate
weight is computed as <a, dy W_down>, so the output of the down projection is never stored (SonicMoE, Guo et al. 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, product
from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..config import Config
from ..instruments.stage import stage
from ..kernel import Cost, Gradients, Kernel, Layer, Operands
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import Groups, Routing, group_by_expert
from ..problem.tensors import Weights
from ..steps import Step
from ..torch_ops.activations import activate, activate_, activate_backward
from ..torch_ops.combine import row_dots
from ..torch_ops.differentiable_once import differentiable_once
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
        return self.build_split(problem, config, device)

    def build_split(self, problem: Problem, config: Config, device: torch.device) -> ScatterLayer:
        plan = ScatterPlan.of(problem, config)
        if plan.threads == torch.get_num_threads():
            plan = replace(plan, threads=None)  # all that the user lets it use, also where that changes later
        return ScatterLayer(problem=problem, plan=plan)

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


@dataclass(frozen=True, kw_only=True)
class ScatterLayer:
    """A layer in one configuration; `SplitLayer` describes its passes."""

    problem: Problem
    plan: ScatterPlan

    def __call__(self, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        operands = _operands(x_TD, routing, weights)
        if torch.is_grad_enabled() and any(operand is not None and operand.requires_grad for operand in operands):
            return _Scatter.apply(self, routing, *operands)  # type: ignore[no-untyped-call,no-any-return]
        with threads(self.plan.threads):
            return _forward(self, routing, _grouped(routing), None, *operands)

    def keep(self, x_TD: Tensor, routing: Routing, weights: Weights, h_NU: Tensor) -> Tensor:
        with threads(self.plan.threads):
            return _forward(self, routing, _grouped(routing), h_NU, *_operands(x_TD, routing, weights))

    def backward(
        self,
        dy_TD: Tensor,
        x_TD: Tensor,
        routing: Routing,
        weights: Weights,
        h_NU: Tensor,
        wanted: Sequence[bool],
    ) -> Gradients:
        with threads(self.plan.threads):
            operands = _operands(x_TD, routing, weights)
            return _backward(self, routing, _grouped(routing), h_NU, dy_TD, wanted, *operands)


def _operands(x_TD: Tensor, routing: Routing, weights: Weights) -> Operands:
    return x_TD, routing.gates_TK, weights.w_up_EUD, weights.w_down_EDF, weights.b_up_EU, weights.b_down_ED


def _thread_counts(present: int) -> list[int]:
    """Return the number that torch uses at present, then the powers of two below it."""
    return [present, *(1 << power for power in range((present - 1).bit_length()))]


def _forward(
    layer: ScatterLayer,
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
    problem, plan = layer.problem, layer.plan
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
    def forward(ctx: Any, layer: ScatterLayer, routing: Routing, x_TD: Tensor, *operands: Tensor) -> Tensor:
        with threads(layer.plan.threads):
            groups = _grouped(routing)
            h_NU = x_TD.new_empty(groups.route_N.numel(), layer.problem.U)
            ctx.save_for_backward(x_TD, *operands, h_NU)
            ctx.layer, ctx.routing, ctx.groups = layer, routing, groups
            return _forward(layer, routing, groups, h_NU, x_TD, *operands)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dy_TD: Tensor) -> tuple[Tensor | None, ...]:
        *operands, h_NU = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        with threads(ctx.layer.plan.threads):
            return None, None, *_backward(ctx.layer, ctx.routing, ctx.groups, h_NU, dy_TD, wanted, *operands)


def _backward(
    layer: ScatterLayer,
    routing: Routing,
    groups: Groups,
    h_NU: Tensor,
    dy_TD: Tensor,
    wanted: Sequence[bool],
    x_TD: Tensor,
    gates_TK: Tensor,
    w_up_EUD: Tensor,
    w_down_EDF: Tensor,
    b_up_EU: Tensor | None,
    b_down_ED: Tensor | None,
) -> Gradients:
    """Compute the gradients of the operands of `_forward` that are wanted."""
    plan = layer.plan
    for_x, for_gates, for_w_up, for_w_down, for_b_up, for_b_down = wanted
    gates_N1 = gates_TK.flatten()[groups.route_N, None]
    rows = min(plan.tile, max(groups.counts, default=0))
    gather = GATHERS[plan.gather]
    x = gather(x_TD.to(plan.dtype), groups.token_N, rows)
    dy = gather(dy_TD.to(plan.dtype), groups.token_N, rows)
    dx = COMBINES[plan.combine](x_TD.to(plan.dtype), routing, groups, torch.ones_like(gates_TK), rows)
    w_up, w_down = Operand(w_up_EUD, plan.dtype), Operand(w_down_EDF, plan.dtype)
    dgates_N = torch.zeros(gates_TK.numel(), dtype=torch.float32, device=x_TD.device)
    dw_up, dw_down = _WeightGradient(w_up_EUD, for_w_up), _WeightGradient(w_down_EDF, for_w_down)
    db_up_EU, db_down_ED = _zeros(b_up_EU, for_b_up), _zeros(b_down_ED, for_b_down)
    for e, of_expert in groupby(tiles(groups, plan.tile), key=itemgetter(0)):
        # In float32 where several tiles would each round the sum.
        exact = plan.dtype if groups.counts[e] <= plan.tile else torch.float32
        with dw_up.of(e, exact) as add_to_up, dw_down.of(e, exact) as add_to_down:
            for _, n in of_expert:
                dy_nD, h_nU, back_n1 = dy(n), h_NU[n].to(plan.dtype), gates_N1[n]
                a_nF = activate(layer.problem, h_nU)
                scale_n1 = _scales(dy_nD) if plan.dtype == torch.float16 else None
                da_nF = (dy_nD if scale_n1 is None else (dy_nD / scale_n1).to(plan.dtype)) @ w_down[e]
                dgate_n = row_dots(a_nF, da_nF)
                if scale_n1 is not None:
                    dgate_n, back_n1 = dgate_n * scale_n1[:, 0], back_n1 * scale_n1
                dgates_N[groups.route_N[n]] = (
                    dgate_n if b_down_ED is None else dgate_n + dy_nD.float() @ b_down_ED[e].float()
                )
                add_to_down(dy_nD.mul_(gates_N1[n]).T, a_nF)
                dh_nU = activate_backward(layer.problem, h_nU, da_nF.mul_(back_n1))
                add_to_up(dh_nU.T, x(n))
                if db_down_ED is not None:
                    db_down_ED[e] += dy_nD.sum(0, dtype=torch.float32)
                if db_up_EU is not None:
                    db_up_EU[e] += dh_nU.sum(0, dtype=torch.float32)
                if for_x:
                    torch.mm(dh_nU, w_up[e], out=dx.out(n))
                    dx.put(n)
    dx_TD = dx.sum().to(x_TD.dtype) if for_x else None
    dgates_TK = dgates_N.view_as(gates_TK) if for_gates else None
    return dx_TD, dgates_TK, dw_up.total_EMN, dw_down.total_EMN, db_up_EU, db_down_ED


class _WeightGradient:
    """The gradient of the matrices of all experts, one expert at a time; None where it is not wanted."""

    def __init__(self, weights_EMN: Tensor, wanted: bool) -> None:
        self.total_EMN = torch.zeros_like(weights_EMN) if wanted else None

    @contextmanager
    def of(self, e: int, dtype: torch.dtype) -> Iterator[Callable[[Tensor, Tensor], None]]:
        """Give a function that adds a product to the gradient of expert ``e``, which is summed in ``dtype``."""
        if self.total_EMN is None:
            yield lambda *_: None
            return
        sum_MN = self.total_EMN[e].to(dtype)  # a view where the dtype is the same
        yield partial(_add_product, sum_MN)
        self.total_EMN[e] = sum_MN


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


def _zeros(bias: Tensor | None, wanted: bool) -> Tensor | None:
    """Return zeros in which the gradient of a bias is summed in float32; autograd rounds it to the bias's dtype."""
    return torch.zeros_like(bias, dtype=torch.float32) if wanted and bias is not None else None


kernel = Scatter()
