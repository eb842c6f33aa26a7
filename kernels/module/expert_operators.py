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
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, library

from ..kernel import SplitLayer
from ..problem import Problem
from ..problem.routing import Routing, within_capacity
from ..problem.tensors import Weights
from ..torch_ops.differentiable_once import TWICE
from .built_layers import built, built_split
from .float64_experts import float64_experts, float64_gradients

CALL: Final = (
    "Tensor x, Tensor ids, Tensor gates, Tensor w_up, Tensor w_down, Tensor? b_up, Tensor? b_down, str activation, "
    "float? capacity_factor, str drop, str capacity_rule, str dispatch, bool batch_invariant"
)
"""The first arguments of every operator: tensors with the shapes of `ExpertsCall`, and options of `apply_experts`."""
OPERANDS: Final = 7
"""How many of them are tensors."""
DIFFERENTIABLE: Final = (0, 2, 3, 4, 5, 6)
"""Those that have gradients, in the order of `kernel.Gradients`."""


class ExpertsCall(NamedTuple):
    """The arguments `CALL` of an operator: tokens (T, D), ids (T, K) of any integer dtype, and gate weights (T, K).

    The gate weights are float32, or float64 where the tokens are.
    """

    x_TD: Tensor
    ids_TK: Tensor
    gates_TK: Tensor
    weights: Weights
    problem: Problem
    dispatch: str
    batch_invariant: bool

    @staticmethod
    def of(
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
    ) -> ExpertsCall:
        """Return the call that an operator was given."""
        weights = Weights(w_up_EUD=w_up_EUD, w_down_EDF=w_down_EDF, b_up_EU=b_up_EU, b_down_ED=b_down_ED)
        shape = (*w_up_EUD.shape, w_down_EDF.shape[2])
        problem = _problem(*shape, b_up_EU is not None, activation, capacity_factor, drop, capacity_rule)
        return ExpertsCall(x_TD, ids_TK, gates_TK, weights, problem, dispatch, batch_invariant)

    @property
    def is_float64(self) -> bool:
        """True where plain operations run in place of a kernel."""
        return self.x_TD.dtype == torch.float64

    def new_rows(self) -> Tensor:
        """Return memory for the pre-activations of all routes, (T K, U)."""
        return self.x_TD.new_empty(self.ids_TK.numel(), self.problem.U)

    def no_autocast(self) -> torch.autocast:
        """Return a context without autocast: the tensors have been converted."""
        return torch.autocast(self.x_TD.device.type, enabled=False)

    def split(self) -> tuple[SplitLayer, Routing]:
        """Return a layer whose passes can be called apart, and the routes that the capacity keeps."""
        (T, K), problem = self.ids_TK.shape, self.problem
        routing = Routing.of_ids(self.ids_TK, self.gates_TK, experts=problem.E)
        if problem.capacity_factor is not None:
            capacity = problem.replace(T=T, K=K).capacity
            routing = routing if capacity is None else within_capacity(routing, problem.drop, capacity)
        where = (self.x_TD.dtype, self.x_TD.device)
        return built_split(problem, T, K, *where, self.dispatch, self.batch_invariant), routing


@library.custom_op("moebench::experts", mutates_args=(), schema=f"({CALL}) -> Tensor")
def experts(*arguments: Any) -> Tensor:
    """Return y (T, D) of experts, of the dtype of x."""
    call = ExpertsCall.of(*arguments)
    x_TD, ids_TK, gates_TK, weights, problem, *how = call
    with call.no_autocast():
        if call.is_float64:
            return float64_experts(problem, x_TD, ids_TK, gates_TK, weights)
        routing = Routing.of_ids(ids_TK, gates_TK, experts=problem.E)
        layer = built(problem, *ids_TK.shape, None, "forward", x_TD.dtype, x_TD.device, *how)
        return layer(x_TD, routing, weights)


@library.custom_op("moebench::experts_keeping", mutates_args=(), schema=f"({CALL}) -> (Tensor, Tensor)")
def experts_keeping(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Return what `experts` returns, and the pre-activations (T K, U) that `SplitLayer.keep` writes; not in float64.

    After those of the present routes anything may stand.
    """
    call = ExpertsCall.of(*arguments)
    h_NU = call.new_rows()
    with call.no_autocast():
        layer, routing = call.split()
        return layer.keep(call.x_TD, routing, call.weights, h_NU), h_NU


@library.custom_op(
    "moebench::experts_backward",
    mutates_args=(),
    schema=f"({CALL}, Tensor dy, Tensor? h, bool[] wanted) -> Tensor[]",
)
def experts_backward(*arguments: Any) -> list[Tensor]:
    """Return the wanted ones among the gradients of x, the gate weights, both matrices and both biases, in that order.

    Without the pre-activations ``h`` they are computed again.
    """
    *of_call, dy_TD, h_NU, wanted = arguments
    call = ExpertsCall.of(*of_call)
    x_TD, weights = call.x_TD, call.weights
    with call.no_autocast():
        if call.is_float64:
            found = float64_gradients(call.problem, dy_TD, x_TD, call.ids_TK, call.gates_TK, weights, wanted)
        else:
            layer, routing = call.split()
            if h_NU is None:
                h_NU = call.new_rows()
                layer.keep(x_TD, routing, weights, h_NU)
            found = layer.backward(dy_TD, x_TD, routing, weights, h_NU, wanted)
    operands = [arguments[number] for number in DIFFERENTIABLE]
    return [one.to(operand.dtype) for one, operand in zip(found, operands, strict=True) if one is not None]


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
