"""Recorded sweeps: every configuration of a space as it was measured beside the default."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from ...kernels.problem import InvalidProblem, Problem
from ...results.record import Record, Status
from .space import Space
from .stages import SUITE

UNBUILT = (Status.unsupported, Status.invalid)  # nothing was built, so that nothing is known of its time


@dataclass(frozen=True)
class MeasuredPair:
    """Samples in nanoseconds of a configuration and of the default, measured in one batch."""

    own_ns: Sequence[float]
    default_ns: Sequence[float]

    def score(self, samples: int | None = None) -> float:
        """Return the ratio of the medians of the first ``samples`` of both, or of all samples."""
        return statistics.median(self.own_ns[:samples]) / statistics.median(self.default_ns[:samples])


@dataclass(frozen=True, kw_only=True)
class RecordedSweep:
    """All measurements of one kernel on one problem and machine.

    ``default`` is a record of the default. ``pairs`` holds, for each configuration of ``space``, one pair for every
    time that it was measured, and none where it failed.
    """

    space: Space
    default: Record
    pairs: tuple[tuple[MeasuredPair, ...], ...]

    @property
    def key(self) -> str:
        """The key of the problem."""
        return self.default.key

    @property
    def problem(self) -> Problem:
        """The problem that was solved.

        Raises:
            InvalidProblem: when this moebench does not know such a problem.
        """
        try:
            return Problem(**self.default.problem)  # type: ignore[arg-type]  # checked in its __post_init__
        except TypeError as error:
            raise InvalidProblem(f"{self.key} is no problem of this moebench: {error}") from error

    def score(self, index: int) -> float:
        """Return the time of a configuration over the default's: the median over its measurements.

        The score of a configuration that failed is infinite.
        """
        return statistics.median([pair.score() for pair in self.pairs[index]] or [math.inf])

    @property
    def best(self) -> int:
        """The index of the fastest configuration, by all samples."""
        return min(range(len(self.pairs)), key=self.score)

    def regret(self, index: int) -> float:
        """Return the time that a configuration loses to the best one, as a share of the best's time."""
        return self.score(index) / self.score(self.best) - 1

    def share_to_keep(self, predicted: Sequence[float]) -> float:
        """Return the share of a ranking by ``predicted`` that holds the best: 0.03 means within its top 3 %.

        Configurations with the same prediction as the best are ranked before it.

        Raises:
            ValueError: when there is not one prediction for each configuration.
        """
        if len(predicted) != len(self.space):
            raise ValueError(f"{len(predicted)} predictions for {len(self.space)} configurations: give one for each")
        limit = predicted[self.best]
        return sum(seconds <= limit for seconds in predicted) / len(predicted)


def recorded_sweeps(records: Sequence[Record]) -> list[RecordedSweep]:
    """Return the sweeps in a tuner's records: one for each kernel, problem and machine whose default was measured.

    The default is the configuration that is in most batches. Batches in which the default failed are left out.
    """
    groups: dict[Hashable, list[Record]] = defaultdict(list)
    for record in records:
        if record.point.suite == SUITE and record.status not in UNBUILT:
            environment = record.environment.model_dump_json()
            groups[record.kernel, record.source, record.key, record.point.cache, environment].append(record)
    found = (_sweep(group) for group in groups.values())
    return [sweep for sweep in found if sweep is not None]


def _sweep(records: Sequence[Record]) -> RecordedSweep | None:
    batches: dict[Hashable, dict[frozenset[tuple[str, Any]], Record]] = {}
    counts: dict[frozenset[tuple[str, Any]], int] = {}
    for record in records:
        config = frozenset(record.config.items())
        batch = batches.setdefault((record.point.line, record.point.x), {})
        counts[config] = counts.get(config, 0) + (config not in batch)
        batch[config] = record
    default = max(counts, key=lambda config: counts[config])  # of equals the first
    passed = None
    pairs: dict[frozenset[tuple[str, Any]], list[MeasuredPair]] = {default: []}
    for batch in batches.values():
        beside = batch.get(default)
        if beside is None or beside.timing is None:
            continue
        passed = beside
        for config, record in batch.items():
            measured = pairs.setdefault(config, [])
            if record.timing is not None:
                measured.append(MeasuredPair(record.timing.samples_ns, beside.timing.samples_ns))
    if passed is None:
        return None
    space = Space.among(passed.kernel, [dict(config) for config in pairs])
    return RecordedSweep(space=space, default=passed, pairs=tuple(map(tuple, pairs.values())))
