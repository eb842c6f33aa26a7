"""Estimate of the time that a tuning run still takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ...kernels.problem import Problem
from ...results.record import Record, Stage
from .strategy import FINALISTS
from .tuning_plan import TuningPlan

FLOPS_PER_BYTE: Final = 8  # what a call costs beside its bytes, on a CPU; only ratios of calls are made of it
WINNERS: Final = 1  # of other batch sizes that are compared beside the finalists: often they are the same


@dataclass
class _Measured:
    """Costs of competitors so far: their number, their seconds, and the part of these that was timed."""

    competitors: int = 0
    seconds: float = 0.0
    timed_s: float = 0.0

    @property
    def each_s(self) -> float:
        return self.seconds / max(1, self.competitors)


@dataclass
class TuningTimeLeft:
    """Estimates the seconds left from what competitors have taken so far, batch size by batch size, stage by stage.

    A search takes a number of samples, so that the timed part of its trials grows with the batch size; the part
    beside it is taken to stay. Comparisons of finalists are timed for ``quoted_s`` until the first of them has shown
    what they take. On the recorded runs the estimate stays between half and double of the truth
    (tests/autotune/search/test_tuning_time_left.py). What is over counts no more, however early it ended.

    ``candidates`` are how many each searched problem has, ``held`` the trials of it that the records hold already.
    """

    plan: TuningPlan
    candidates: Mapping[Problem, int]
    held: Mapping[Problem, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._left: dict[tuple[Stage, Problem], float] = {}
        for problem in self.plan.searched:
            trials = min(self.plan.trials, self.candidates[problem]) - self.held.get(problem, 0)
            self._left["search", problem] = max(0, trials)
        compared = 2 + min(FINALISTS, self.plan.trials)
        for problem in self.plan.problems:
            self._left["final", problem] = compared
        for problem in self.plan.problems:
            for load in (problem.load, *self.plan.loads):
                self._left["cross", problem.replace(load=load)] = compared + WINNERS
        for problem in self.plan.held_out:
            self._left["held-out", problem] = compared + WINNERS
        self._order = list(self._left)
        self._searched: dict[Problem, _Measured] = {}
        self._compared = _Measured()
        self._spent_s = 0.0
        self._share = 0.0

    def finished(self, stage: Stage, problem: Problem, records: Sequence[Record], seconds: float) -> None:
        """Note the records of a task, and the seconds since the one before it."""
        place = (stage, problem)
        if place not in self._left:
            return
        for other in self._order[: self._order.index(place)]:
            self._left[other] = 0  # whatever it was thought to need
        of = self._searched.setdefault(problem, _Measured()) if stage == "search" else self._compared
        of.competitors += len(records)
        of.seconds += seconds
        of.timed_s += sum(sum(record.timing.samples_ns) / 1e9 for record in records if record.timing)
        self._left[place] = max(0.0, self._left[place] - (len(records) - 1)) if stage == "search" else 0.0
        self._spent_s += seconds
        self._share = max(self._share, self._spent_s / (self._spent_s + self.seconds))

    def stop_searching(self, begun: Collection[Problem]) -> None:
        """Note that no search goes on and none begins: what was found of the problems ``begun`` is compared."""
        for stage, problem in self._order:
            if stage == "search" or not any(problem.replace(load=one.load) == one for one in begun):
                self._left[stage, problem] = 0

    @property
    def seconds(self) -> float:
        """The estimate; at least one task must be done."""
        return sum(self._needed_s(*place) for place, left in self._left.items() if left)

    @property
    def share_done(self) -> float:
        """Share of the time that is over, from 0 to 1. It never falls, even where the estimate of the rest grows."""
        return self._share

    def _needed_s(self, stage: Stage, problem: Problem) -> float:
        left = self._left[stage, problem]
        if stage == "search":
            beside_default = 1 + 1 / 4  # each task has four candidates and the default
            needed_s = left * beside_default * self._trial_s(problem)
            measured = self._searched.get(problem, _Measured())
            return min(needed_s, max(0.0, self.plan.seconds - measured.seconds))
        if self._compared.competitors:
            return left * self._compared.each_s
        nearest = self._nearest(problem)
        own_s = (nearest.seconds - nearest.timed_s) / max(1, nearest.competitors)
        return left * (own_s + self.plan.quoted_s / 2)

    def _trial_s(self, problem: Problem) -> float:
        """Return the seconds of a trial: as measured, else those of another batch size in proportion."""
        if problem in self._searched:
            return self._searched[problem].each_s
        near = self._nearest_problem(problem)
        if near is None:
            return 0.0
        measured = self._searched[near]
        growth = _work(problem) / _work(near)
        return (measured.seconds + measured.timed_s * (growth - 1)) / max(1, measured.competitors)

    def _nearest(self, problem: Problem) -> _Measured:
        near = self._nearest_problem(problem)
        return _Measured() if near is None else self._searched[near]

    def _nearest_problem(self, problem: Problem) -> Problem | None:
        return min(self._searched, key=lambda one: abs(_work(one) - _work(problem)), default=None)


def _work(problem: Problem) -> float:
    """Return what a call costs, in bytes."""
    rows = problem.T * problem.K
    return problem.ideal_bytes(min(problem.E, rows)) + problem.flops(rows) / FLOPS_PER_BYTE
