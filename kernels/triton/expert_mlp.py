"""Layers made of grouped products, forward and backward; all implementations in Triton use them.

An MoE layer is two products with the activation between them; `RoutedProducts` is one product for every route.
Backward keeps x and the pre-activations, T * D + N * U elements, and recomputes the rest (SonicMoE, Guo et al. 2025).
Nothing is added atomically: two runs give the same bits. Nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from ..hardware.gpus import Hardware
from ..instruments.stage import stage
from ..kernel import Gradients, Operands
from ..problem import Problem
from ..problem.routing import Routing, service_order
from ..problem.tensors import Weights
from ..torch_ops.differentiable_once import differentiable_once
from .grouped_products import GroupedProducts
from .permutation import COMPACT, Layout, order
from .tiles import Tiles


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """The choices that fix how a layer is computed.

    ``layout``: where the rows of every expert are stored between the two products. ``gathered``: tokens are read where
    they are, else they are copied into a buffer of that layout. ``scatter``: output rows are stored by route, else in
    expert order.
    """

    problem: Problem
    tiles: Tiles
    hardware: Hardware
    layout: Layout
    gathered: bool
    scatter: bool

    def __call__(self, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        """Compute y (T, D)."""
        operands = _operands(x_TD, routing, weights)
        differentiable = not self.problem.quantised and torch.is_grad_enabled()
        with torch.cuda.device_of(x_TD):  # Triton launches on the current device, wherever its arguments are
            if differentiable and any(operand is not None and operand.requires_grad for operand in operands):
                return cast(Tensor, _Experts.apply(self, routing, *operands))  # type: ignore[no-untyped-call]
            s_up_EU, s_down_ED = (None if s is None else s.contiguous() for s in (weights.s_up_EU, weights.s_down_ED))
            return self.forward(self.products(routing), None, *operands, s_up_EU, s_down_ED)

    def keep(self, x_TD: Tensor, routing: Routing, weights: Weights, h_NU: Tensor) -> Tensor:
        """Do what `SplitLayer.keep` describes; the layout must be compact."""
        with torch.cuda.device_of(x_TD):
            products = self.products(routing)
            return self.forward(products, h_NU[: products.order.rows], *_operands(x_TD, routing, weights))

    def backward(
        self,
        dy_TD: Tensor,
        x_TD: Tensor,
        routing: Routing,
        weights: Weights,
        h_NU: Tensor,
        wanted: Sequence[bool],
    ) -> Gradients:
        """Do what `SplitLayer.backward` describes; the layout must be compact."""
        with torch.cuda.device_of(x_TD):
            products, operands = self.products(routing), _operands(x_TD, routing, weights)
            return self.gradients(products, h_NU[: products.order.rows], routing.ids_TK, dy_TD, wanted, *operands)

    def products(self, routing: Routing) -> GroupedProducts:
        """Return the products of one call, with its rows in expert order."""
        problem = self.problem
        heights = self.tiles.heights(problem)
        with stage("dispatch"):
            found, schedules = order(
                routing.ids_TK,
                experts=problem.E,
                layout=self.layout,
                blocks=heights,
                limit=problem.capacity,
                service_N=None if problem.capacity is None else service_order(routing, problem.drop),
            )
        return GroupedProducts(
            problem=problem,
            tiles=self.tiles,
            hardware=self.hardware,
            order=found,
            schedules=dict(zip(heights, schedules, strict=True)),
            gathered=self.gathered,
        )

    def forward(
        self,
        products: GroupedProducts,
        h_RU: Tensor | None,
        x_TD: Tensor,
        gates_TK: Tensor,
        w_up_EUD: Tensor,
        w_down_EDF: Tensor,
        b_up_EU: Tensor | None,
        b_down_ED: Tensor | None,
        s_up_EU: Tensor | None = None,
        s_down_ED: Tensor | None = None,
    ) -> Tensor:
        """y; the pre-activations are left in ``h_RU`` when it is given.

        Where the weights have scales, every row of tokens and hidden values is rounded and given one too.
        """
        gates_TK = gates_TK.contiguous()
        with stage("up"):
            q_TD, scales = products.scaled(x_TD, s_up_EU, of_buffer=False)
            a_RF = products.up(products.dispatch(q_TD), w_up_EUD, b_up_EU, h_RU, scales)
        with stage("down"):
            q_RF, scales = products.scaled(a_RF, s_down_ED, of_buffer=True)
            y_SMD = products.down(q_RF, w_down_EDF, b_down_ED, gates_TK, scales, scatter=self.scatter)
        return products.combine(y_SMD, x_TD, by_route=self.scatter)

    def gradients(
        self,
        products: GroupedProducts,
        h_RU: Tensor,
        ids_TK: Tensor,
        dy_TD: Tensor,
        wanted: Sequence[bool],
        x_TD: Tensor,
        gates_TK: Tensor,
        w_up_EUD: Tensor,
        w_down_EDF: Tensor,
        b_up_EU: Tensor | None,
        b_down_ED: Tensor | None,
    ) -> Gradients:
        """Return the gradients of the operands of `forward` that are wanted, from the pre-activations ``h_RU``."""
        for_x, for_gates, for_w_up, for_w_down, for_b_up, for_b_down = wanted
        gates_N = gates_TK.contiguous().view(-1)
        dx_TD = dgates_TK = dw_up_EUD = dw_down_EDF = db_up_EU = db_down_ED = None
        dy = products.dispatch(dy_TD)
        dh_RU, ga_RF, dgates_N = products.down_backward(dy, w_down_EDF, h_RU, gates_N)
        if for_gates:
            if b_down_ED is not None:
                dgates_N += _bias_part_of_gates(dy_TD, b_down_ED, ids_TK, products.order.slot_N)
            dgates_TK = dgates_N.view_as(gates_TK)
        if for_w_down:
            dw_down_EDF = products.weight_gradient(dy, ga_RF, tokens="p", shape=w_down_EDF.shape)
        del ga_RF
        if for_b_down and b_down_ED is not None:
            db_down_ED = products.bias_gradient(dy, gates_N, tokens=True)
        del dy
        if for_w_up:
            dw_up_EUD = products.weight_gradient(dh_RU, products.dispatch(x_TD), tokens="q", shape=w_up_EUD.shape)
        if for_b_up and b_up_EU is not None:
            db_up_EU = products.bias_gradient(dh_RU, None, tokens=False)
        if for_x:
            dx_SMD = products.tokens_gradient(dh_RU, w_up_EUD, scatter=self.scatter)
            dx_TD = products.combine(dx_SMD, x_TD, by_route=self.scatter)
        return dx_TD, dgates_TK, dw_up_EUD, dw_down_EDF, db_up_EU, db_down_ED


def _operands(x_TD: Tensor, routing: Routing, weights: Weights) -> Operands:
    b_up_EU, b_down_ED = (None if b is None else b.contiguous() for b in (weights.b_up_EU, weights.b_down_ED))
    return x_TD, routing.gates_TK, weights.w_up_EUD, weights.w_down_EDF, b_up_EU, b_down_ED


class _Experts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: LayerPlan, routing: Routing, x_TD: Tensor, *operands: Any) -> Tensor:
        products = plan.products(routing)
        h_RU = x_TD.new_empty(products.order.rows, plan.problem.U)
        ctx.save_for_backward(x_TD, *operands, h_RU)
        ctx.plan, ctx.products, ctx.ids_TK = plan, products, routing.ids_TK
        return plan.forward(products, h_RU, x_TD, *operands)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dy_TD: Tensor) -> tuple[Tensor | None, ...]:
        *operands, h_RU = ctx.saved_tensors
        plan: LayerPlan = ctx.plan
        wanted = ctx.needs_input_grad[2:]
        return None, None, *plan.gradients(ctx.products, h_RU, ctx.ids_TK, dy_TD, wanted, *operands)


def _bias_part_of_gates(dy_TD: Tensor, b_down_ED: Tensor, ids_TK: Tensor, slot_N: Tensor) -> Tensor:
    """Compute <dy, b_down> of every kept route, (N,)."""
    dot_TE = dy_TD.float() @ b_down_ED.float().T
    dot_TK = dot_TE.gather(1, ids_TK.long().clamp(0, b_down_ED.shape[0] - 1))
    return torch.where(slot_N >= 0, dot_TK.flatten(), 0)


@dataclass(frozen=True, kw_only=True)
class RoutedProducts:
    """One product for every route: x (M, I), routes (M, K) and weights (E, O, I) in, rows (M, K, O) out.

    It is ScatterMoE's ParallelLinear (Tan et al. 2024, section 3) with rows out by route. ``problem`` is one of experts
    without activation; I and O are its D and F, in either order.
    """

    problem: Problem
    tiles: Tiles
    hardware: Hardware
    gathered: bool

    def __call__(self, x_MI: Tensor, routing: Routing, w_EOI: Tensor) -> Tensor:
        """Compute the rows; those of absent routes are zeros."""
        with torch.cuda.device_of(x_MI):  # Triton launches on the current device, wherever its arguments are
            return cast(Tensor, _RoutedProducts.apply(self, routing, x_MI, w_EOI))  # type: ignore[no-untyped-call]

    def products(self, routing: Routing, w_EOI: Tensor) -> GroupedProducts:
        """Return the products of one call, whose first one has these weights."""
        _, out, into = w_EOI.shape
        turned = (into, out) != (self.problem.D, self.problem.F)
        return self._plans[turned].products(routing)

    @cached_property
    def _plans(self) -> tuple[LayerPlan, LayerPlan]:
        """The layers whose first product goes into the width of an expert, and out of it."""
        into, out = (
            LayerPlan(
                problem=problem,
                tiles=self.tiles,
                hardware=self.hardware,
                layout=COMPACT,
                gathered=self.gathered,
                scatter=False,
            )
            for problem in (self.problem, self.problem.replace(D=self.problem.F, F=self.problem.D))
        )
        return into, out


class _RoutedProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: RoutedProducts, routing: Routing, x_MI: Tensor, w_EOI: Tensor) -> Tensor:
        products = plan.products(routing, w_EOI)
        ctx.save_for_backward(x_MI, w_EOI)
        ctx.products = products
        rows_RO = products.up(products.dispatch(x_MI), w_EOI, None, None)
        slot_N = products.order.slot_N
        if not len(rows_RO):
            return rows_RO.new_zeros(*routing.ids_TK.shape, w_EOI.shape[1])
        # Memory of rows that the buffer has not is never read, whatever lies there.
        with stage("combine"):
            rows_NO = rows_RO[slot_N.clamp(min=0)].masked_fill((slot_N < 0)[:, None], 0)
        return rows_NO.view(*routing.ids_TK.shape, -1)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, drows_MKO: Tensor) -> tuple[Tensor | None, ...]:
        x_MI, w_EOI = ctx.saved_tensors
        products: GroupedProducts = ctx.products
        _, _, for_x, for_w = ctx.needs_input_grad
        order = products.order
        # Absent routes all go to one row more than the buffer has.
        drows_RO = drows_MKO.new_zeros(order.rows + 1, w_EOI.shape[1])
        drows_RO[torch.where(order.slot_N < 0, order.rows, order.slot_N)] = drows_MKO.flatten(0, 1)
        drows_RO = drows_RO[: order.rows]
        dx_MI = dw_EOI = None
        if for_w:
            dw_EOI = products.weight_gradient(drows_RO, products.dispatch(x_MI), tokens="q", shape=w_EOI.shape)
        if for_x:
            dx_MI = products.combine(products.tokens_gradient(drows_RO, w_EOI, scatter=False), x_MI, by_route=False)
        return None, None, dx_MI, dw_EOI
