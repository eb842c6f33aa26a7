"""Cost model of `loop` on a CPU, step by step, for the rows that each expert has in a routing."""

from __future__ import annotations

from collections.abc import Sequence

from ..problem import Problem
from .cpu import Operations, fresh_bytes
from .torch_steps import INDEXED_PASSES, MM_CALLS, SCALED, TorchSteps

# To find the rows of an expert: three calls, and elements of a gated activation that a route is worth in them.
FOUND = (3, 4)


def loop_steps(problem: Problem, counts: Sequence[int], cores: int) -> list[Operations]:
    """Return the steps of a forward, or of a training step; those of one expert alternate, which changes no sum.

    What is made for one expert stays in cache, unless it is large.
    """
    step = TorchSteps.of(problem, counts, cores)
    E, touched, tokens = problem.E, step.touched, problem.T * problem.D
    elements = step.rows * problem.D
    calls, worth = FOUND
    large = sum(fresh_bytes(n * problem.U * step.element, n * problem.D * 4) for n in counts)
    forward = [
        step.pointwise("find", calls * E, elements=calls * E * problem.N, gated=worth * E * problem.N),
        step.pointwise("gather", 2 * E, elements=2 * elements, bytes=INDEXED_PASSES * elements * step.element),
        _product(step, "up", problem.D, problem.U),
        step.activation(step.rows, calls=4 * E),
        _product(step, "down", problem.F, problem.D),
        step.pointwise("weight", 5 * E, elements=5 * elements, gated=SCALED * elements),
        # One row after the other, on one thread: a token of float32 is read and written.
        step.operations("add", 2 * E, threads=1, bytes=8 * elements, fresh=large + fresh_bytes(4 * tokens)),
        step.pointwise("round", 1, elements=tokens, bytes=tokens * (4 + step.element)),
    ]
    if not step.training:
        return forward
    gradients = E * problem.D * (problem.U + problem.F) * step.element
    return [
        *forward,
        # The gradient of an indexed tensor is a new tensor of zeros to which rows are added, and those are added up.
        step.operations("gather backward", 6 * touched, bytes=5 * touched * tokens * step.element),
        step.pointwise("weight backward", 8 * E, elements=8 * elements, gated=3 * SCALED * elements),
        _product_backward(step, "down backward", problem.F, problem.D),
        step.activation_backward(step.rows, calls=8 * E),
        _product_backward(step, "up backward", problem.D, problem.U),
        step.operations("stack gradients", 2, bytes=2 * gradients, fresh=fresh_bytes(gradients)),
    ]


def _product(step: TorchSteps, name: str, inner: int, outer: int) -> Operations:
    # Experts without rows are multiplied too, which takes their calls and not their weights.
    matrices = step.touched * inner * outer * step.element
    return step.operations(
        name, MM_CALLS * step.problem.E, flops=2 * step.rows * inner * outer, bytes=step.mm_passes * matrices
    )


def _product_backward(step: TorchSteps, name: str, inner: int, outer: int) -> Operations:
    matrices = step.touched * inner * outer * step.element
    return step.operations(
        name,
        2 * MM_CALLS * step.problem.E,
        flops=4 * step.rows * inner * outer,
        bytes=(step.mm_passes + 2) * matrices,
    )
