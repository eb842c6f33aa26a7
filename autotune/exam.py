"""An exam: fresh inputs, the true result, and what a layer makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..kernels.kernel import Layer
from ..kernels.oracle import Result, drop, reference
from ..kernels.problem import Problem
from ..kernels.routing import Routing
from ..kernels.shard import Shard
from ..kernels.tensors import Inputs, Weights, draw_inputs
from ..results.record import Error
from .check import errors
from .ranks import gather, rank, worst_of_ranks


class TouchedInputs(ValueError):
    """A layer wrote to what it was given to read."""


def call(problem: Problem, layer: Layer, inputs: Inputs) -> Result:
    """What is timed: a forward without autograd, or a forward and the gradients of `Inputs.differentiable`."""
    if problem.mode == "forward":
        with torch.no_grad():
            return Result(y_TD=layer(inputs.x_TD, inputs.routing, inputs.weights), gradients={})
    y_TD = layer(inputs.x_TD, inputs.routing, inputs.weights)
    wanted = inputs.differentiable()
    gradients = torch.autograd.grad(y_TD, list(wanted.values()), inputs.dy_TD)
    return Result(y_TD=y_TD.detach(), gradients=dict(zip(wanted, gradients, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Exam:
    """This rank's inputs and the result it must give; ``routed`` and ``kept`` are the routes of all ranks."""

    inputs: Inputs
    expected: Result
    routed: Routing
    kept: Routing

    @staticmethod
    def draw(problem: Problem, weights: Weights, *, seed: int, device: torch.device) -> Exam:
        """Fresh tokens and routes for given weights, never the ones of another seed."""
        everyone = draw_inputs(problem, weights, seed=seed, device=device)
        expected = reference(problem, everyone)
        mine = everyone
        if problem.ranks > 1:
            shard = Shard.of(problem, rank())
            mine, expected = everyone.shard(shard), expected.shard(shard)
        kept = drop(problem, everyone.routing)
        return Exam(inputs=_for(problem, mine), expected=expected, routed=everyone.routing, kept=kept)

    def copies(self, problem: Problem, count: int) -> list[Inputs]:
        """The inputs ``count`` times, each in memory of its own."""
        return [self.inputs, *(_for(problem, self.inputs.clone()) for _ in range(count - 1))]

    def grade(self, take: Callable[[], Result]) -> dict[str, Error]:
        """Errors of the result that ``take`` gives for the inputs, each as on the worst rank.

        Raises:
            TouchedInputs: when an input has changed on any rank.
            ValueError: when a result has the wrong shape.
        """
        before = self._checksums()
        self._poison()
        found = worst_of_ranks(errors(take(), self.expected))
        changed = [name for name, checksum in self._checksums().items() if checksum != before[name]]
        if any(gather(len(changed))):
            raise TouchedInputs(f"it wrote to its inputs: {', '.join(changed) or 'on another rank'}")
        return found

    def _checksums(self) -> dict[str, float]:
        """A sum that any write almost surely moves, in the one form that costs no more than reading the tensor."""
        return {name: float(t.detach().sum(dtype=torch.float32)) for name, t in self.inputs.tensors().items()}

    def _poison(self) -> None:
        """Leave NaN in the memory that an output is likely to get, so that reading it before writing shows."""
        for _ in range(2):
            torch.full_like(self.inputs.x_TD, torch.nan, requires_grad=False)


def _for(problem: Problem, inputs: Inputs) -> Inputs:
    return inputs.requires_grad_() if problem.mode == "train" else inputs
