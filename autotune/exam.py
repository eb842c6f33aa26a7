"""An exam: fresh inputs, the true result, and what a layer makes of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch

from ..kernels.kernel import Layer
from ..kernels.oracle import Result, drop, reference, reference_bytes
from ..kernels.problem import Problem
from ..kernels.routing import Routing
from ..kernels.shard import Shard
from ..kernels.tensors import Inputs, Weights, draw_inputs, draw_weights
from ..results.memory import available_bytes, give_back
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
    """This rank's inputs and the result it must give; ``routed`` and ``kept`` are the routes of all ranks.

    ``checksums`` are those of the inputs as they were drawn.
    """

    inputs: Inputs
    expected: Result
    routed: Routing
    kept: Routing
    checksums: Mapping[str, float]

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
        return Exam.of(_for(problem, mine), expected, routed=everyone.routing, kept=kept)

    @staticmethod
    def of(inputs: Inputs, expected: Result, *, routed: Routing, kept: Routing) -> Exam:
        """The exam on inputs as they are now."""
        return Exam(inputs=inputs, expected=expected, routed=routed, kept=kept, checksums=_checksums(inputs))

    def copies(self, problem: Problem, count: int) -> list[Inputs]:
        """The inputs ``count`` times, each in memory of its own."""
        return [self.inputs, *(_for(problem, self.inputs.clone()) for _ in range(count - 1))]

    def grade(self, take: Callable[[], Result]) -> dict[str, Error]:
        """Errors of the result that ``take`` gives for the inputs, each as on the worst rank.

        Raises:
            TouchedInputs: when an input has changed on any rank.
            ValueError: when a result has the wrong shape.
        """
        self._poison()
        found = worst_of_ranks(errors(take(), self.expected))
        changed = self.changed()
        if any(gather(len(changed))):
            raise TouchedInputs(f"it wrote to its inputs: {', '.join(changed) or 'on another rank'}")
        return found

    def changed(self) -> list[str]:
        """The names of the inputs that somebody wrote to."""
        return [name for name, checksum in _checksums(self.inputs).items() if checksum != self.checksums[name]]

    def _poison(self) -> None:
        """Leave NaN in the memory that an output is likely to get, so that reading it before writing shows."""
        for _ in range(2):
            torch.full_like(self.inputs.x_TD, torch.nan, requires_grad=False)


class Exams:
    """The two exams of each problem at hand: one before timing, one on inputs that a layer has not seen.

    They are kept while the same problem is asked for again, as a tuner does: the reference would be most of its time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._weights: dict[Problem, Weights] = {}
        self._drawn: dict[Problem, dict[int, Exam]] = {}

    def keep(self, problems: Collection[Problem]) -> None:
        """Forget all other problems."""
        for problem in self._weights.keys() - set(problems):
            self.forget(problem)

    def forget(self, problem: Problem) -> None:
        """Give its memory back, and draw it anew, the same again, when it is next asked for."""
        self._weights.pop(problem, None)
        self._drawn.pop(problem, None)
        give_back(self._device)

    def holds(self, problem: Problem) -> bool:
        """Whether its first exam needs no drawing."""
        return 0 in self._drawn.get(problem, {})

    def first(self, problem: Problem) -> Exam:
        """The exam before timing."""
        return self._exam(problem, 0)

    def last(self, problem: Problem) -> Exam:
        """The exam after timing; the first one is forgotten where memory is short."""
        drawn = self._drawn.setdefault(problem, {})
        if 1 not in drawn and available_bytes(self._device) < problem.input_bytes + reference_bytes(problem):
            drawn.clear()
            give_back(self._device)
        return self._exam(problem, 1)

    def _exam(self, problem: Problem, turn: int) -> Exam:
        if problem not in self._weights:
            self._weights[problem] = draw_weights(problem, seed=problem.seed, device=self._device)
        drawn = self._drawn.setdefault(problem, {})
        if turn not in drawn:
            seed = 2 * problem.seed + 1 + turn
            drawn[turn] = Exam.draw(problem, self._weights[problem], seed=seed, device=self._device)
        return drawn[turn]


def _checksums(inputs: Inputs) -> dict[str, float]:
    """A sum that any write almost surely moves, in the one form that costs no more than reading the tensor."""
    return {name: float(t.detach().sum(dtype=torch.float32)) for name, t in inputs.tensors().items()}


def _for(problem: Problem, inputs: Inputs) -> Inputs:
    return inputs.requires_grad_() if problem.mode == "train" else inputs
