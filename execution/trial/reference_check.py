"""An exam: fresh inputs, the true result, and what a layer makes of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch

from ...kernels.kernel import Layer
from ...kernels.oracle import Result, drop
from ...kernels.problem import Problem
from ...kernels.problem.routing import Routing
from ...kernels.problem.shard import Shard
from ...kernels.problem.tensors import Inputs, Weights, draw_inputs, draw_weights
from ...kernels.question import Question
from ...results.record import Error
from ...results.timing.memory import available_bytes, give_back
from .accuracy import errors
from .across_ranks import gather, rank, worst_of_ranks


class TouchedInputs(ValueError):
    """A layer wrote to what it was given to read."""


def call(problem: Problem, layer: Layer, inputs: Inputs) -> Result:
    """What is timed: a forward without autograd, or a forward and the gradients of `Inputs.differentiable`."""
    if problem.mode == "forward":
        with torch.no_grad():
            return Result(y_TD=layer(inputs.x_TD, inputs.routing, inputs.weights), gradients={})
    y_TD = layer(inputs.x_TD, inputs.routing, inputs.weights)
    wanted = inputs.differentiable()
    # What is not used has a gradient of zeros. Where that is wrong, so is the result.
    gradients = torch.autograd.grad(y_TD, list(wanted.values()), inputs.dy_TD, materialize_grads=True)
    return Result(y_TD=y_TD.detach(), gradients=dict(zip(wanted, gradients, strict=True)))


@dataclass(frozen=True)
class Subject:
    """What an exam is about: a problem, and the question that is asked of it."""

    problem: Problem
    question: Question

    @property
    def drawing_bytes(self) -> int:
        """Bytes that drawing an exam allocates at its peak, beside the result of an implementation."""
        return self.problem.input_bytes + self.question.truth_bytes(self.problem)


@dataclass(frozen=True, kw_only=True)
class ReferenceCheck:
    """This rank's inputs and the result it must give; ``routed`` and ``kept`` are the routes of all ranks.

    ``checksums`` are those of the inputs as they were drawn.
    """

    inputs: Inputs
    expected: Result
    routed: Routing
    kept: Routing
    checksums: Mapping[str, float]

    @staticmethod
    def draw(subject: Subject, weights: Weights, *, seed: int, device: torch.device) -> ReferenceCheck:
        """Fresh tokens and routes for given weights, never the ones of another seed."""
        problem, question = subject.problem, subject.question
        everyone = question.given(problem, draw_inputs(problem, weights, seed=seed, device=device))
        expected = question.truth(problem, everyone)
        mine = everyone
        if problem.ranks > 1:
            shard = Shard.of(problem, rank())
            mine, expected = everyone.shard(shard), expected.shard(shard)
        kept = drop(problem, everyone.routing)
        return ReferenceCheck.of(_for(problem, mine), expected, routed=everyone.routing, kept=kept)

    @staticmethod
    def of(inputs: Inputs, expected: Result, *, routed: Routing, kept: Routing) -> ReferenceCheck:
        """The exam on inputs as they are now."""
        return ReferenceCheck(inputs=inputs, expected=expected, routed=routed, kept=kept, checksums=_checksums(inputs))

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


class ReferenceChecks:
    """The two exams of each subject at hand: one before timing, one on inputs that a layer has not seen.

    They are kept while the same subject is asked for again, as a tuner does: the reference would be most of its time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._weights: dict[Subject, Weights] = {}
        self._drawn: dict[Subject, dict[int, ReferenceCheck]] = {}

    def keep(self, subjects: Collection[Subject]) -> None:
        """Forget all others."""
        for subject in self._weights.keys() - set(subjects):
            self.forget(subject)

    def forget(self, subject: Subject) -> None:
        """Give its memory back, and draw it anew, the same again, when it is next asked for."""
        self._weights.pop(subject, None)
        self._drawn.pop(subject, None)
        give_back(self._device)

    def holds(self, subject: Subject) -> bool:
        """Whether its first exam needs no drawing."""
        return 0 in self._drawn.get(subject, {})

    def first(self, subject: Subject) -> ReferenceCheck:
        """The exam before timing."""
        return self._exam(subject, 0)

    def last(self, subject: Subject) -> ReferenceCheck:
        """The exam after timing; the first one is forgotten where memory is short."""
        drawn = self._drawn.setdefault(subject, {})
        if 1 not in drawn and available_bytes(self._device) < subject.drawing_bytes:
            drawn.clear()
            give_back(self._device)
        return self._exam(subject, 1)

    def _exam(self, subject: Subject, turn: int) -> ReferenceCheck:
        problem = subject.problem
        if subject not in self._weights:
            self._weights[subject] = draw_weights(problem, seed=problem.seed, device=self._device)
        drawn = self._drawn.setdefault(subject, {})
        if turn not in drawn:
            seed = 2 * problem.seed + 1 + turn
            drawn[turn] = ReferenceCheck.draw(subject, self._weights[subject], seed=seed, device=self._device)
        return drawn[turn]


def _checksums(inputs: Inputs) -> dict[str, float]:
    """A sum that any write almost surely moves, in the one form that costs no more than reading the tensor."""
    return {name: float(t.detach().sum(dtype=torch.float32)) for name, t in inputs.tensors().items()}


def _for(problem: Problem, inputs: Inputs) -> Inputs:
    return inputs.requires_grad_() if problem.mode == "train" else inputs
