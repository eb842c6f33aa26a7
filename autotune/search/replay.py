"""Recorded sweeps searched again: what a strategy would have found, and after how many trials."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.problem import InvalidProblem, Problem
from ...results.record import Record, Status
from .space import Space
from .stages import SUITE
from .strategy import DEFAULT, STRATEGIES, Scores, Strategy

SEEDS = 20
SHARES = (0.05, 0.1, 0.2, 0.5)  # of a space, after which the regret is told

# A problem or a configuration that was never built says nothing of how fast it is.
UNBUILT = (Status.unsupported, Status.invalid)


@dataclass(frozen=True)
class Pair:
    """Samples in nanoseconds of a configuration and of the default, measured in one batch."""

    own_ns: Sequence[float]
    default_ns: Sequence[float]

    def score(self, samples: int | None = None) -> float:
        """The ratio of the medians of the first ``samples`` of both, of all where that is None."""
        return statistics.median(self.own_ns[:samples]) / statistics.median(self.default_ns[:samples])


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Everything that was measured of one kernel on one problem and machine.

    ``default`` is a record of the default, ``pairs`` holds for each configuration of ``space`` a pair for every time
    that it was measured, none where it failed.
    """

    space: Space
    default: Record
    pairs: tuple[tuple[Pair, ...], ...]

    @property
    def key(self) -> str:
        """The problem in one word."""
        return self.default.key

    @property
    def problem(self) -> Problem:
        """The problem that was solved.

        Raises:
            InvalidProblem: when it is none that this moebench knows.
        """
        try:
            return Problem(**self.default.problem)  # type: ignore[arg-type]  # checked in its __post_init__
        except TypeError as error:
            raise InvalidProblem(f"{self.key} is no problem of this moebench: {error}") from error

    def told(self, index: int, samples: int) -> float | None:
        """What a search hears: the time of a configuration over the default's by their first samples.

        None where the configuration failed.
        """
        pairs = self.pairs[index]
        return pairs[0].score(samples) if pairs else None

    def answer(self, told: Scores) -> int:
        """What a tuner would name if its search ended now: the best of the finalists and the default, measured again.

        The measurements after the one that was told stand for that; where there are none, what was told does.
        """

        def again(index: int) -> float:
            later = [pair.score() for pair in self.pairs[index][1:]]
            return statistics.fmean(later) if later else told.score(index)

        return min([DEFAULT, *told.finalists()], key=again)

    def score(self, index: int) -> float:
        """What it is judged by: the same by all samples, and the median where it was measured several times.

        Infinite where the configuration failed.
        """
        return statistics.median([pair.score() for pair in self.pairs[index]] or [math.inf])

    @property
    def best(self) -> int:
        """The fastest configuration by all samples."""
        return min(range(len(self.pairs)), key=self.score)

    def regret(self, index: int) -> float:
        """How much slower a configuration is than the best, as a share of the best's time, by all samples."""
        return self.score(index) / self.score(self.best) - 1


def sweeps(records: Sequence[Record]) -> list[Sweep]:
    """The sweeps that a tuner's records hold, one for each kernel, problem and machine whose default was measured.

    The default is the configuration that is in most batches. A batch in which it failed says nothing of how fast the
    others are.
    """
    groups: dict[Hashable, list[Record]] = defaultdict(list)
    for record in records:
        if record.point.suite == SUITE and record.status not in UNBUILT:
            environment = record.environment.model_dump_json()
            groups[record.kernel, record.source, record.key, record.point.cache, environment].append(record)
    found = (_sweep(group) for group in groups.values())
    return [sweep for sweep in found if sweep is not None]


def _sweep(records: Sequence[Record]) -> Sweep | None:
    batches: dict[Hashable, dict[frozenset[tuple[str, Any]], Record]] = {}
    counts: dict[frozenset[tuple[str, Any]], int] = {}
    for record in records:
        config = frozenset(record.config.items())
        batch = batches.setdefault((record.point.line, record.point.x), {})
        counts[config] = counts.get(config, 0) + (config not in batch)
        batch[config] = record
    default = max(counts, key=lambda config: counts[config])  # of equals the first
    passed = None
    pairs: dict[frozenset[tuple[str, Any]], list[Pair]] = {default: []}
    for batch in batches.values():
        beside = batch.get(default)
        if beside is None or beside.timing is None:
            continue
        passed = beside
        for config, record in batch.items():
            measured = pairs.setdefault(config, [])
            if record.timing is not None:
                measured.append(Pair(record.timing.samples_ns, beside.timing.samples_ns))
    if passed is None:
        return None
    space = Space.among(passed.kernel, [dict(config) for config in pairs])
    return Sweep(space=space, default=passed, pairs=tuple(map(tuple, pairs.values())))


@dataclass(frozen=True, kw_only=True)
class Regret:
    """The regret of a strategy after ``trials``: the median and the worst over its seeds."""

    trials: int
    median: float
    worst: float


@dataclass(frozen=True, kw_only=True)
class Study:
    """A strategy on a sweep: the regret of what it would answer after each trial of each seed.

    ``regrets_SN`` is (seeds, trials). A trial is one configuration asked for, with however many samples.
    """

    strategy: str
    sweep: Sweep
    regrets_SN: NDArray[np.float64]

    @staticmethod
    def of(
        strategy: str,
        sweep: Sweep,
        *,
        predicted: Sequence[float] | None = None,
        seeds: int = SEEDS,
        trials: int | None = None,
    ) -> Study:
        """Search a sweep once for each seed, for so many trials, or for the largest of `SHARES` of the space.

        Raises:
            UnknownName: when there is no such strategy.
        """
        kind = STRATEGIES.load(strategy)
        trials = trials or _trials(sweep, max(SHARES))
        curves = [_curve(kind(sweep.space, seed=seed, predicted=predicted), sweep, trials) for seed in range(seeds)]
        return Study(strategy=strategy, sweep=sweep, regrets_SN=np.array(curves))

    def after(self, share: float) -> Regret:
        """The regret after the trials that a share of the space makes, rounded down, and at least one."""
        trials = _trials(self.sweep, share)
        regrets = self.regrets_SN[:, min(trials, self.regrets_SN.shape[1]) - 1]
        return Regret(trials=trials, median=float(np.median(regrets)), worst=float(regrets.max()))


def _trials(sweep: Sweep, share: float) -> int:
    return max(1, math.floor(share * len(sweep.space)))


def _curve(strategy: Strategy, sweep: Sweep, trials: int) -> list[float]:
    """The regret after each trial; a strategy that has ended keeps what it has found."""
    curve: list[float] = []
    while len(curve) < trials:
        for ask in strategy.ask(1):
            strategy.tell(ask.index, ask.samples, sweep.told(ask.index, ask.samples))
        curve.append(sweep.regret(sweep.answer(strategy.told)))
    return curve


def pruning(sweep: Sweep, predicted: Sequence[float]) -> float:
    """The share of a static model's ranking that has to be kept to keep the best: 0.03 is within its top 3 %.

    Where predictions are equal, the best comes last of them.

    Raises:
        ValueError: when there is not one prediction for each configuration.
    """
    if len(predicted) != len(sweep.space):
        raise ValueError(f"{len(predicted)} predictions for {len(sweep.space)} configurations: give one for each")
    limit = predicted[sweep.best]
    return sum(seconds <= limit for seconds in predicted) / len(predicted)
