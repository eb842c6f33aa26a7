"""A dense MLP beside the experts, with their activation and their gating, of a width of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

    from ..instruments.stage import StageName

UP, DOWN = "layer_mlp_up", "layer_mlp_down"


def mlp_shapes(problem: Problem, width: int) -> dict[str, tuple[int, int]]:
    """Return the shapes of both matrices, stored as those of an expert."""
    return {UP: (2 * width if problem.gated else width, problem.D), DOWN: (problem.D, width)}


def mlp_flops(problem: Problem, width: int) -> int:
    """Return the FLOPs of one forward."""
    return 2 * problem.T * problem.D * width * (3 if problem.gated else 2)


def mlp_elements(problem: Problem, width: int) -> int:
    """Return the elements of hidden values and outputs that exist at a time; in training autograd keeps them."""
    if problem.mode == "forward":
        return problem.T * (2 * width + problem.D)
    halves = 4 if problem.gated else 2  # before the activation, and after each of its steps
    return problem.T * (halves * width + 2 * problem.D)


def mlp(problem: Problem, x_TD: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Compute W_down act(W_up x) for every token, (T, D)."""
    from ..torch_ops.activations import activate  # noqa: PLC0415  # problems are made where torch is not wanted

    return _product("down", activate(problem, _product("up", x_TD, tensors[UP])), tensors[DOWN])


def _product(name: StageName, rows_TI: Tensor, w_OI: Tensor) -> Tensor:
    from torch.nn import functional  # noqa: PLC0415

    from ..instruments.stage import stage  # noqa: PLC0415

    with stage(name):
        return functional.linear(rows_TI, w_OI)


def true_mlp(problem: Problem, tensors: Mapping[str, Tensor]) -> Tensor:
    """Compute the same of all float64 tensors of a layer by name."""
    from ..torch_ops.activations import activate  # noqa: PLC0415

    return activate(problem, tensors["x"] @ tensors[UP].T) @ tensors[DOWN].T
