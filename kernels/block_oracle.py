"""The reference result of a layer, in float64: of the experts alone, or of a block around them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from .oracle import Result, reference, reference_bytes
from .problem import Problem
from .problem.block import Block, ExpertBlock, ProjectionBlock
from .problem.routing import Routing
from .problem.tensors import Inputs
from .torch_ops.differentiable_once import differentiable_once


def true_layer(problem: Problem, inputs: Inputs) -> Result:
    """Compute the result of `oracle.reference`, with the block of the problem around it where there is one."""
    block = problem.around
    if block is None:
        return reference(problem, inputs)
    wanted = inputs.differentiable() if inputs.dy_TD is not None else {}
    experts = _TrueExperts(problem, inputs) if isinstance(block, ExpertBlock) else None
    apart = {} if experts is None else inputs.weights.of_experts().named()  # these stay as they are stored
    leaves = {
        name: tensor.detach().double().requires_grad_(name in wanted)
        for name, tensor in inputs.tensors().items()
        if name not in apart
    }
    with torch.set_grad_enabled(bool(wanted)):
        y_TD = _truth(block, problem, experts, leaves, inputs.routing)
    if inputs.dy_TD is None:
        return Result(y_TD=y_TD, gradients={})
    gradients = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in wanted.items()}
    if y_TD.requires_grad:
        sources = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
        found = torch.autograd.grad(
            y_TD, list(sources.values()), inputs.dy_TD.double(), allow_unused=True, materialize_grads=True
        )
        gradients |= dict(zip(sources, found, strict=True))
    if experts is not None:
        gradients |= {name: gradient for name, gradient in experts.gradients.items() if name in apart}
    return Result(y_TD=y_TD.detach(), gradients=gradients)


def _truth(
    block: Block,
    problem: Problem,
    experts: _TrueExperts | None,
    leaves: Mapping[str, Tensor],
    routing: Routing,
) -> Tensor:
    if isinstance(block, ExpertBlock) and experts is not None:
        return block.truth(problem, experts, leaves)
    if isinstance(block, ProjectionBlock):
        return block.truth(problem, routing.ids_TK, leaves)
    raise TypeError(f"{type(block).__name__} is neither an ExpertBlock nor a ProjectionBlock")


class _TrueExperts:
    """The experts of a block by `oracle.reference`, so that float64 copies exist of one expert at a time.

    ``gradients`` are those of the weights, once the backward has run.
    """

    def __init__(self, problem: Problem, inputs: Inputs) -> None:
        self._core = problem.core
        self._inputs = inputs
        self.gradients: dict[str, Tensor] = {}

    def __call__(self, x_TD: Tensor, gates_TK: Tensor) -> Tensor:
        return cast(Tensor, _ExpertsFunction.apply(self, x_TD, gates_TK))  # type: ignore[no-untyped-call]

    def result(self, x_TD: Tensor, gates_TK: Tensor, dy_TD: Tensor | None) -> Result:
        """Return y, and for an output gradient all gradients, which are kept."""
        inputs = Inputs(
            x_TD=x_TD.detach(),
            routing=dataclasses.replace(self._inputs.routing, gates_TK=gates_TK.detach().float()),  # as drawn
            weights=self._inputs.weights.of_experts(),
            dy_TD=dy_TD,
        )
        found = reference(self._core, inputs)
        self.gradients |= found.gradients
        return found


class _ExpertsFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, experts: _TrueExperts, x_TD: Tensor, gates_TK: Tensor) -> Tensor:
        ctx.experts = experts
        ctx.save_for_backward(x_TD, gates_TK)
        return experts.result(x_TD, gates_TK, None).y_TD

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dy_TD: Tensor) -> tuple[None, Tensor, Tensor]:
        with torch.enable_grad():
            gradients = ctx.experts.result(*ctx.saved_tensors, dy_TD).gradients
        return None, gradients["x"], gradients["gates"]


def true_layer_bytes(problem: Problem) -> int:
    """Return about how many bytes `true_layer` allocates at its peak."""
    block = problem.around
    if block is None:
        return reference_bytes(problem)
    own = sum(rows * columns for rows, columns in block.shapes(problem).values())
    passes = 2 if problem.mode == "train" else 1  # values, and their gradients
    held = passes * (own + 2 * problem.T * problem.D) + block.own_elements(problem)
    core = problem.core
    if isinstance(block, ExpertBlock):
        return reference_bytes(core) + 8 * held
    matrices = core.E * core.D * (core.U + core.F)
    return 8 * (held + passes * matrices)
