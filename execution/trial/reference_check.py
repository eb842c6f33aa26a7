"""Reference check: fresh inputs, their result by the oracle, and the errors of a layer on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ...kernels.instruments.stage import stage
from ...kernels.kernel import Layer
from ...kernels.oracle import Result, drop
from ...kernels.problem import Problem
from ...kernels.problem.block import DrawsRoutes
from ...kernels.problem.draw_routes import check_seed, draw_routes
from ...kernels.problem.routing import Routing, widened
from ...kernels.problem.shard import Shard
from ...kernels.problem.tensors import Inputs, Weights, draw_inputs, draw_weights
from ...kernels.question import Question
from ...results.record import Error
from ...results.timing.memory import available_bytes, give_back
from .across_ranks import gather, rank, worst_of_ranks
from .checks.accuracy import errors
from .checks.checksum import changed, checksum, checksums
from .checks.poison import forget, poisoned_memory
from .checks.timed_inputs import TimedInputs

NEW_SHARE: Final = 32  # of that many tokens of a second check one is new, where the results of the others are known


class TouchedInputs(ValueError):
    """A layer wrote to its inputs, which it may only read."""

    @staticmethod
    def named(names: Collection[str]) -> TouchedInputs:
        """Return the error that names inputs of this rank, or another rank."""
        return TouchedInputs(f"it wrote to its inputs: {', '.join(names) or 'on another rank'}")


class DeferredResult(ValueError):
    """A layer returned something else than plain tensors, which may compute when they are read."""


def call(problem: Problem, layer: Layer, inputs: Inputs) -> Result:
    """Make the call that is timed: a forward without autograd, or one with the gradients of `Inputs.differentiable`."""
    if problem.mode == "forward":
        with torch.no_grad():
            return Result(y_TD=layer(inputs.x_TD, inputs.routing, inputs.weights), gradients={})
    y_TD = layer(inputs.x_TD, inputs.routing, inputs.weights)
    wanted = inputs.differentiable()
    # An input that is not used gets a gradient of zeros; where it should have been used, the result is wrong.
    with stage("backward"):
        gradients = torch.autograd.grad(y_TD, list(wanted.values()), inputs.dy_TD, materialize_grads=True)
    return Result(y_TD=y_TD.detach(), gradients=dict(zip(wanted, gradients, strict=True)))


@dataclass(frozen=True)
class Subject:
    """Subject of a check: a problem, and which question about it is computed."""

    problem: Problem
    question: Question

    @property
    def by_token(self) -> bool:
        """True if a token's result depends on that token and its routes alone."""
        problem = self.problem
        alone = problem.around is None or problem.around.by_token
        return problem.mode == "forward" and problem.capacity is None and self.question.by_token and alone

    @property
    def drawing_bytes(self) -> int:
        """Bytes that drawing a check allocates at its peak, besides the result of an implementation."""
        return self.problem.input_bytes + self.question.truth_bytes(self.problem)


@dataclass(frozen=True, kw_only=True)
class ReferenceCheck:
    """Inputs of this rank and their expected result. ``routed`` and ``kept`` are the routes of all ranks.

    ``checksums`` are those of the inputs when they were drawn. Where tokens are repeated, ``row_T`` says which row of
    the expected y is each token's.
    """

    inputs: Inputs
    expected: Result
    routed: Routing
    kept: Routing
    checksums: Mapping[str, int]
    row_T: Tensor | None = None

    @staticmethod
    def draw(subject: Subject, weights: Weights, *, seed: int, device: torch.device, width: int = 0) -> ReferenceCheck:
        """Draw fresh tokens and routes for given weights, which differ from seed to seed.

        Where no token has ``width`` routes, absent ones are added.
        """
        problem, question = subject.problem, subject.question
        everyone = question.given(problem, draw_inputs(problem, weights, seed=seed, device=device), seed)
        routing = widened(everyone.routing, max(width, everyone.routing.chosen))
        everyone = dataclasses.replace(everyone, routing=routing)
        if problem.ranks == 1:
            mine, expected = everyone, question.truth(problem, everyone)
        else:
            shard = Shard.of(problem, rank())
            mine = everyone.shard(shard)
            if subject.by_token:  # of the tokens of this rank alone, by the experts of all
                tokens = dataclasses.replace(mine, weights=everyone.weights)
                expected = question.truth(problem.replace(T=len(mine.x_TD), ranks=1, wire=None), tokens)
            else:
                expected = question.truth(problem, everyone).shard(shard)
        kept = drop(problem, everyone.routing)
        return ReferenceCheck.of(_for(problem, mine), expected, routed=everyone.routing, kept=kept)

    @staticmethod
    def of(
        inputs: Inputs, expected: Result, *, routed: Routing, kept: Routing, row_T: Tensor | None = None
    ) -> ReferenceCheck:
        """Return the check on inputs as they are now."""
        return ReferenceCheck(
            inputs=inputs, expected=expected, routed=routed, kept=kept, checksums=checksums(inputs), row_T=row_T
        )

    def with_known(self, problem: Problem, known: ReferenceCheck, *, seed: int) -> ReferenceCheck:
        """Return a check with the tokens of this one, and those of ``known`` drawn with repetition, in random order.

        A token's result must depend on that token and its routes alone. Places and the experts' numbers of rows are
        new, and the results of repeated tokens are known.
        """
        new, device = len(self.inputs.x_TD), self.inputs.x_TD.device
        generator = torch.Generator(device).manual_seed(seed)
        again_T = torch.randint(len(known.inputs.x_TD), (problem.T,), generator=generator, device=device)
        places = torch.randperm(problem.T, generator=generator, device=device)[:new]

        def joined(ours: Tensor, theirs: Tensor) -> Tensor:
            return theirs.index_select(0, again_T).index_copy_(0, places, ours)

        mine, theirs = self.inputs, known.inputs
        own_rows, rows = self.expected.y_TD, known.expected.y_TD
        of_known_T = torch.arange(len(theirs.x_TD), device=device) if known.row_T is None else known.row_T
        row_T = joined(torch.arange(new, device=device), of_known_T + (0 if known is self else new))
        width = max(mine.routing.chosen, theirs.routing.chosen)
        own, others = (widened(one.routing, width) for one in (mine, theirs))
        routing = Routing(
            ids_TK=joined(own.ids_TK, others.ids_TK),
            gates_TK=joined(own.gates_TK, others.gates_TK),
            experts=mine.routing.experts,
        )
        return ReferenceCheck.of(
            Inputs(x_TD=joined(mine.x_TD, theirs.x_TD), routing=routing, weights=theirs.weights),
            Result(y_TD=rows if known is self else torch.cat([own_rows, rows]), gradients={}),
            routed=routing,
            kept=routing,
            row_T=row_T,
        )

    def copies(self, problem: Problem, count: int) -> list[Inputs]:
        """Return the inputs ``count`` times, each set in separate memory."""
        return [self.inputs, *(_for(problem, self.inputs.clone()) for _ in range(count - 1))]

    def timed(self, problem: Problem, count: int, *, scaled: bool = True) -> TimedInputs:
        """Return ``count`` sets of inputs for timed calls; ``scaled`` see `TimedInputs`."""
        return TimedInputs(problem, self.inputs, self.routed, count=count, rank=rank(), scaled=scaled)

    def grade(self, take: Callable[[], Result]) -> dict[str, Error]:
        """Return the errors of the result of ``take`` on these inputs, each as on the worst rank.

        Raises:
            TouchedInputs: when an input has changed on any rank.
            DeferredResult: when a result is not a plain tensor.
            ValueError: when a result has the wrong shape.
        """
        with poisoned_memory(self.inputs.x_TD):
            result = take()
        found = self.compare(result)
        forget(result, self.inputs)
        refuse_touched(self.changed())
        return found

    def compare(self, result: Result) -> dict[str, Error]:
        """Return the errors of a result for these inputs, each as on the worst rank."""
        refuse_deferred(result)
        return worst_of_ranks(errors(result, self.expected, self.row_T))

    def changed(self) -> list[str]:
        """Return the names of the inputs that were written to."""
        return changed(self.inputs, self.checksums)


def refuse_deferred(result: Result) -> None:
    """Raise `DeferredResult` unless all tensors of a result are plain ones on every rank."""
    tensors = {"y": result.y_TD, **result.gradients}
    found = [f"{name} is of {type(one).__name__}" for name, one in tensors.items() if type(one) is not Tensor]
    if any(gather(len(found))):
        which = found[0] if found else "a result is on another rank"
        raise DeferredResult(f"{which}, not a plain tensor that holds its values")


def refuse_touched(names: Collection[str]) -> None:
    """Raise `TouchedInputs` if any rank names an input."""
    if any(gather(len(names))):
        raise TouchedInputs.named(names)


class ReferenceChecks:
    """Cache of the two checks of each subject: one before timing, one after it on inputs that a layer has not seen.

    They are kept while the same subject is asked for again, as a tuner does: drawing the reference would take most of
    its time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._weights: dict[Subject, Weights] = {}
        self._drawn: dict[Subject, dict[int, ReferenceCheck]] = {}

    def keep(self, subjects: Collection[Subject]) -> None:
        """Forget all other subjects, but not weights that one of these has too, if they are as they were drawn."""
        wanted = {_weights_of(subject): subject for subject in subjects if subject not in self._weights}
        for subject in self._weights.keys() - set(subjects):
            weights, drawn = self._weights[subject], self._drawn.get(subject, {}).get(0)
            self.forget(subject)
            heir = wanted.pop(_weights_of(subject), None)
            if heir and drawn and _as_drawn(weights, drawn):
                self._weights[heir] = weights.map(torch.detach)  # without the gradients of training

    def forget(self, subject: Subject) -> None:
        """Free the memory of a subject. When it is next asked for, the same inputs are drawn again."""
        self._weights.pop(subject, None)
        self._drawn.pop(subject, None)
        give_back(self._device)

    def holds(self, subject: Subject) -> bool:
        """Return whether the first check of a subject is drawn already."""
        return 0 in self._drawn.get(subject, {})

    def first(self, subject: Subject) -> ReferenceCheck:
        """Return the check before timing."""
        return self._check(subject, 0)

    def last(self, subject: Subject) -> ReferenceCheck:
        """Return the check after timing; the first one is freed when memory is short."""
        drawn = self._drawn.setdefault(subject, {})
        if 1 not in drawn and available_bytes(self._device) < subject.drawing_bytes:
            drawn.clear()
            give_back(self._device)
        return self._check(subject, 1)

    def _check(self, subject: Subject, turn: int) -> ReferenceCheck:
        problem = subject.problem
        if subject not in self._weights:
            self._weights[subject] = draw_weights(problem, seed=problem.seed, device=self._device)
        drawn = self._drawn.setdefault(subject, {})
        if turn not in drawn:
            drawn[turn] = self._drawn_check(subject, drawn.get(0), seed=check_seed(problem, turn))
        return drawn[turn]

    def _drawn_check(self, subject: Subject, known: ReferenceCheck | None, *, seed: int) -> ReferenceCheck:
        """Draw a check; where results of tokens are ``known``, only a share of its tokens is new.

        The reference of a whole batch takes as long as two calls. With one expert, as reference rates have it, all
        tokens take the same way, so that in their first check too some are repeated.
        """
        problem, weights, width = subject.problem, self._weights[subject], _width(subject.problem)
        new = -(-problem.T // NEW_SHARE)
        if problem.ranks > 1 or not subject.by_token or new == problem.T or (known is None and problem.E > 1):
            return ReferenceCheck.draw(subject, weights, seed=seed, device=self._device, width=width)
        fewer = Subject(problem.replace(T=new), subject.question)
        few = ReferenceCheck.draw(fewer, weights, seed=seed, device=self._device, width=width)
        return few.with_known(problem, known or few, seed=seed)


def _width(problem: Problem) -> int:
    """Return how many routes the token with the most has in any check: timed inputs keep their shape for all of them.

    It is 0 where all tokens have K.
    """
    if not problem.leaves_out or isinstance(problem.around, DrawsRoutes):
        return 0
    drawn = [(problem, check_seed(problem, turn)) for turn in (0, 1)]
    drawn.append((problem.replace(T=-(-problem.T // NEW_SHARE)), check_seed(problem, 1)))
    return max(draw_routes(one, seed=seed, device=torch.device("cpu")).chosen for one, seed in drawn)


def _weights_of(subject: Subject) -> tuple[object, ...]:
    """Return what is the same for all subjects that have the same weights."""
    problem = subject.problem
    names = ("E", "D", "F", "gated", "bias", "dtype", "seed", "ranks", "block")
    return tuple(getattr(problem, name) for name in names)


def _as_drawn(weights: Weights, check: ReferenceCheck) -> bool:
    """Return whether weights have not changed since a check was drawn for them."""
    return all(checksum(tensor) == check.checksums[name] for name, tensor in weights.named().items())


def _for(problem: Problem, inputs: Inputs) -> Inputs:
    return inputs.requires_grad_() if problem.mode == "train" else inputs
