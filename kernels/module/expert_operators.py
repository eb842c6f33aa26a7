"""Custom operators of torch that run experts: a graph of torch.compile or torch.export has them as its nodes.

They choose a kernel and its configuration when they run, by the number of tokens of the call: a graph has no kernel in
it, and another number of tokens needs no other graph. ``moebench::experts`` computes the result alone.
``moebench::experts_keeping`` also returns the pre-activations of all routes in expert order, (T K, U), which
``moebench::experts_backward`` takes; it runs a kernel whose passes can be called apart (`Kernel.splits`). The result of
another kernel is differentiated by one of those, which computes the pre-activations again.

A result can be differentiated once; a second derivative is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor

from ..kernel import SplitLayer
from ..problem import Problem
from ..problem.routing import Routing, within_capacity
from ..problem.tensors import Weights
from ..torch_ops.differentiable_once import TWICE
from .built_layers import built, built_split
from .float64_experts import float64_experts, float64_gradients

OPERANDS: Final = 7
"""The first arguments of every operator are x, ids, gate weights, both matrices and both biases."""
DIFFERENTIABLE: Final = (0, 2, 3, 4, 5, 6)
"""Those of them that have gradients, in the order of `kernel.Gradients`."""


@torch.library.custom_op("moebench::experts", mutates_args=())
def experts(
    x_TD: Tensor,
    ids_TK: Tensor,
    gates_TK: Tensor,
    w_up_EUD: Tensor,
    w_down_EDF: Tensor,
    b_up_EU: Tensor | None,
    b_down_ED: Tensor | None,
    activation: str,
    capacity_factor: float | None,
    drop: str,
    capacity_rule: str,
    dispatch: str,
    batch_invariant: bool,
) -> Tensor:
    """Return y (T, D) of experts, of the dtype of x.

    The ids are of any integer dtype, the gate weights float32, or float64 where x is. The other arguments are those of
    `apply_experts`.
    """
    weights = Weights(w_up_EUD=w_up_EUD, w_down_EDF=w_down_EDF, b_up_EU=b_up_EU, b_down_ED=b_down_ED)
    problem = _problem(*_shape(weights), b_up_EU is not None, activation, capacity_factor, drop, capacity_rule)
    with _no_autocast(x_TD):
        if x_TD.dtype == torch.float64:
            return float64_experts(problem, x_TD, ids_TK, gates_TK, weights)
        routing = Routing.of_ids(ids_TK, gates_TK, experts=problem.E)
        layer = built(problem, *ids_TK.shape, None, "forward", x_TD.dtype, x_TD.device, dispatch, batch_invariant)
        return layer(x_TD, routing, weights)


@torch.library.custom_op("moebench::experts_keeping", mutates_args=())
def experts_keeping(
    x_TD: Tensor,
    ids_TK: Tensor,
    gates_TK: Tensor,
    w_up_EUD: Tensor,
    w_down_EDF: Tensor,
    b_up_EU: Tensor | None,
    b_down_ED: Tensor | None,
    activation: str,
    capacity_factor: float | None,
    drop: str,
    capacity_rule: str,
    dispatch: str,
    batch_invariant: bool,
) -> tuple[Tensor, Tensor]:
    """Return what `experts` returns, and the pre-activations (T K, U) that `SplitLayer.keep` writes; not in float64.

    After those of the present routes anything may stand.
    """
    weights = Weights(w_up_EUD=w_up_EUD, w_down_EDF=w_down_EDF, b_up_EU=b_up_EU, b_down_ED=b_down_ED)
    problem = _problem(*_shape(weights), b_up_EU is not None, activation, capacity_factor, drop, capacity_rule)
    h_NU = x_TD.new_empty(ids_TK.numel(), problem.U)
    with _no_autocast(x_TD):
        layer, routing = _split(problem, x_TD, ids_TK, gates_TK, dispatch, batch_invariant)
        return layer.keep(x_TD, routing, weights, h_NU), h_NU


@torch.library.custom_op("moebench::experts_backward", mutates_args=())
def experts_backward(
    x_TD: Tensor,
    ids_TK: Tensor,
    gates_TK: Tensor,
    w_up_EUD: Tensor,
    w_down_EDF: Tensor,
    b_up_EU: Tensor | None,
    b_down_ED: Tensor | None,
    activation: str,
    capacity_factor: float | None,
    drop: str,
    capacity_rule: str,
    dispatch: str,
    batch_invariant: bool,
    dy_TD: Tensor,
    h_NU: Tensor | None,
    wanted: Sequence[bool],
) -> list[Tensor]:
    """Return the wanted ones among the gradients of x, the gate weights, both matrices and both biases, in that order.

    Without the pre-activations ``h_NU`` they are computed again.
    """
    weights = Weights(w_up_EUD=w_up_EUD, w_down_EDF=w_down_EDF, b_up_EU=b_up_EU, b_down_ED=b_down_ED)
    problem = _problem(*_shape(weights), b_up_EU is not None, activation, capacity_factor, drop, capacity_rule)
    with _no_autocast(x_TD):
        if x_TD.dtype == torch.float64:
            found = float64_gradients(problem, dy_TD, x_TD, ids_TK, gates_TK, weights, wanted)
        else:
            layer, routing = _split(problem, x_TD, ids_TK, gates_TK, dispatch, batch_invariant)
            if h_NU is None:
                h_NU = x_TD.new_empty(ids_TK.numel(), problem.U)
                layer.keep(x_TD, routing, weights, h_NU)
            found = layer.backward(dy_TD, x_TD, routing, weights, h_NU, wanted)
    operands = (x_TD, gates_TK, w_up_EUD, w_down_EDF, b_up_EU, b_down_ED)
    return [
        gradient.to(operand.dtype)
        for gradient, operand in zip(found, operands, strict=True)
        if gradient is not None and operand is not None
    ]


@experts.register_fake
def _(x_TD: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x_TD, memory_format=torch.contiguous_format)


@experts_keeping.register_fake
def _(x_TD: Tensor, ids_TK: Tensor, _: Tensor, w_up_EUD: Tensor, *_options: Any) -> tuple[Tensor, Tensor]:
    y_TD = torch.empty_like(x_TD, memory_format=torch.contiguous_format)
    return y_TD, x_TD.new_empty(ids_TK.numel(), w_up_EUD.shape[1])


@experts_backward.register_fake
def _(*arguments: Any) -> list[Tensor]:
    operands = [arguments[number] for number in DIFFERENTIABLE]
    wanted: Sequence[bool] = arguments[-1]
    return [
        torch.empty_like(operand, memory_format=torch.contiguous_format)
        for operand, one in zip(operands, wanted, strict=True)
        if one
    ]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    h_NU = None
    if isinstance(output, tuple):
        h_NU = output[1]
        ctx.mark_non_differentiable(h_NU)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:OPERANDS], h_NU)
    ctx.options = inputs[OPERANDS:]


def _differentiate(ctx: Any, dy_TD: Tensor | None, _: Tensor | None = None) -> tuple[Tensor | None, ...]:
    *operands, h_NU = ctx.saved_tensors
    found: list[Tensor | None] = [None] * (OPERANDS + len(ctx.options))
    if dy_TD is not None:
        wanted = [bool(ctx.needs_input_grad[number]) for number in DIFFERENTIABLE]
        gradients = iter(experts_backward(*operands, *ctx.options, dy_TD, h_NU, wanted))
        for number, one in zip(DIFFERENTIABLE, wanted, strict=True):
            found[number] = next(gradients) if one else None
    return tuple(found)


def _refuse(_ctx: Any, *_: Any) -> Any:
    raise RuntimeError(TWICE)


experts.register_autograd(_differentiate, setup_context=_remember)
experts_keeping.register_autograd(_differentiate, setup_context=_remember)
experts_backward.register_autograd(_refuse)


def _split(
    problem: Problem, x_TD: Tensor, ids_TK: Tensor, gates_TK: Tensor, dispatch: str, batch_invariant: bool
) -> tuple[SplitLayer, Routing]:
    """Return a layer whose passes can be called apart, and the routes that the capacity keeps."""
    T, K = ids_TK.shape
    routing = Routing.of_ids(ids_TK, gates_TK, experts=problem.E)
    if problem.capacity_factor is not None:
        capacity = problem.replace(T=T, K=K).capacity
        routing = routing if capacity is None else within_capacity(routing, problem.drop, capacity)
    return built_split(problem, T, K, x_TD.dtype, x_TD.device, dispatch, batch_invariant), routing


def _shape(weights: Weights) -> tuple[int, int, int, int]:
    E, U, D = weights.w_up_EUD.shape
    return E, U, D, weights.w_down_EDF.shape[2]


@lru_cache
def _problem(
    E: int,
    U: int,
    D: int,
    F: int,
    bias: bool,
    activation: str,
    capacity_factor: float | None,
    drop: str,
    capacity_rule: str,
) -> Problem:
    """Return the problem of these experts; what each call brings is missing."""
    return Problem(T=0, D=D, F=F, E=E, K=1, gated=U == 2 * F, bias=bias, router="softmax_topk").replace(
        activation=activation, capacity_factor=capacity_factor, drop=drop, capacity_rule=capacity_rule
    )


def _no_autocast(x_TD: Tensor) -> torch.autocast:
    """Return a context without autocast: the tensors of an operator have been converted."""
    return torch.autocast(x_TD.device.type, enabled=False)
