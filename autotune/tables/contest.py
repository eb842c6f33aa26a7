"""Contests: the records of a tuner by the place where their configurations competed.

The stage ``final`` has the finalists beside the default, which is measured twice. ``cross`` has the default, all
winners and the finalists for each number of tokens and load. ``held-out`` does the same for tokens without a bucket.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import geometric_mean, median
from typing import NamedTuple

from ...kernels.config import Config
from ...kernels.problem import Problem
from ...kernels.problem.trace import label
from ...kernels.tuned.tuned_table import (
    VALIDITY,
    TunedTable,
    shape_of,
)
from ...results.record import Record, Stage
from ..search.selection import LEAST, Samples, noise
from ..search.stages import SUITE

Word = str
"""A configuration as JSON with sorted names, so that equal ones are equal words."""


class TablePlace(NamedTuple):
    """The shape, the number of tokens and the load under which configurations compete."""

    shape: Problem
    T: int
    load: str


@dataclass(frozen=True)
class TimedConfig:
    """The time of a configuration in nanoseconds, its samples, and those of the default in its batch."""

    ns: float
    samples: Samples
    beside: Samples


@dataclass
class Contest:
    """All records of one place, by batch in order."""

    batches: dict[tuple[int, str], list[Record]] = field(default_factory=lambda: defaultdict(list))

    @property
    def records(self) -> list[Record]:
        return [record for batch in self.batches.values() for record in batch]

    def of(self, *stages: Stage) -> list[list[Record]]:
        """Return the batches of some stages."""
        return [batch for stage in stages for batch in self.batches.values() if batch[0].point.stage == stage]

    def default(self) -> Word | None:
        """Return the configuration measured twice in the last comparison, else its first; None without a comparison."""
        for batch in reversed(self.of("cross", "held-out", "final")):
            word, times = Counter(word_of(record.config) for record in batch).most_common(1)[0]
            return word if times > 1 else word_of(batch[0].config)
        return None

    def times(self, default: Word) -> dict[Word, TimedConfig]:
        """Return the time of every configuration that passed beside the default, from the last batch that it was in.

        The default, which is in all batches, makes their times comparable.
        """
        stages = self.of("final", "cross", "held-out")
        batches = [passed for batch in stages if default in (passed := passed_of(batch))]
        if not batches:
            return {}
        common = geometric_mean(median(passed[default][0]) for passed in batches)
        times = {}
        for passed in batches:
            beside = passed[default][0]
            for word, (samples, *_) in passed.items():
                ns = common if word == default else median(samples) / median(beside) * common
                times[word] = TimedConfig(ns, samples, beside)
        return times

    def noise(self, default: Word) -> float:
        """Return the largest difference between two measurements of the default in one batch; see `selection.noise`."""
        pairs = [passed[default] for batch in self.of("final", "cross") if default in (passed := passed_of(batch))]
        return max((noise(pair[0], pair[-1]) for pair in pairs), default=LEAST)


def groups_by_validity(runs: Sequence[Sequence[Record]]) -> dict[tuple[str, ...], list[list[Record]]]:
    """Return the tuner's records of each run, grouped by what they are valid for."""
    groups: dict[tuple[str, ...], list[list[Record]]] = {}
    for number, run in enumerate(runs):
        for record in run:
            if record.point.suite == SUITE:
                groups.setdefault(validity_of(record), [[] for _ in runs])[number].append(record)
    return groups


def contests_of(runs: Sequence[Sequence[Record]]) -> tuple[dict[TablePlace, Contest], list[str]]:
    """Return the records by place and batch, and why some have no place."""
    contests: dict[TablePlace, Contest] = defaultdict(Contest)
    reasons: dict[str, None] = {}
    for number, run in enumerate(runs):
        for record in run:
            try:
                # Without its load: that may be a file, which is not needed to know the shape.
                problem = Problem(**{**record.problem, "load": "uniform"})  # type: ignore[arg-type]  # checked in it
            except (TypeError, ValueError) as error:
                reasons[f"{record.key} is no problem: {error}"] = None
                continue
            place = TablePlace(shape_of(problem), problem.T, label(str(record.problem.get("load", "uniform"))))
            contests[place].batches[number, record.point.line].append(record)
    return dict(contests), list(reasons)


def passed_of(batch: Sequence[Record]) -> dict[Word, list[Samples]]:
    """Return the samples of the configurations that passed, in order; twice where one was measured twice."""
    passed: dict[Word, list[Samples]] = defaultdict(list)
    for record in batch:
        if record.timing is not None:
            passed[word_of(record.config)].append(record.timing.samples_ns)
    return dict(passed)


def configs_of(records: Iterable[Record]) -> dict[Word, Config]:
    return {word_of(record.config): record.config for record in records}  # type: ignore[misc]  # made by kernels, as Config


def word_of(config: Mapping[str, object]) -> Word:
    return json.dumps(config, sort_keys=True)


def validity_of(record: Record) -> tuple[str, ...]:
    environment = [str(getattr(record.environment, name)) for name in VALIDITY]
    return (record.kernel, record.source, record.point.cache, *environment)


def validity_of_table(table: TunedTable) -> tuple[str, ...]:
    return (table.kernel, table.source, table.cache, *(str(table.environment[name]) for name in VALIDITY))
