"""Records of a tuner by stage and batch: those of one batch were measured in the same rounds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ...kernels.config import Config
from ...kernels.problem import Problem
from ...results.record import Environment, Record, Stage
from ...results.record.identity import Identity

SUITE = "tune"


@dataclass(frozen=True)
class Batch:
    """Records of one problem that were sampled in the same rounds: that of the default, and the others."""

    default: Record
    others: list[Record]


def last_number(records: Sequence[Record], stage: Stage, problem: Problem) -> int:
    """Return the highest number that a batch of a problem has in a stage, 0 where there is none."""
    mine = [record.point for record in records if record.key == problem.key and record.point.stage == stage]
    return max((point.batch or 0 for point in mine), default=0)


def belongs(
    record: Record, *, kernel: str, source: str, environment: Environment, cache: Literal["cold", "hot"]
) -> bool:
    """Return whether a record is of this kernel with these sources, on this machine, with this state of the caches."""
    wanted = Identity(suite=SUITE, kernel=kernel, source=source, cache=cache)
    found = record.identity.only("suite", "kernel", "source", "cache")
    return found == wanted and not record.environment.differs(environment)


def batches(records: Sequence[Record], stage: Stage, problem: Problem, default: Config) -> list[Batch]:
    """Return the batches of a problem in a stage, in order; those without the default are left out."""
    groups: dict[int | None, list[Record]] = defaultdict(list)
    for record in records:
        if record.key == problem.key and record.point.stage == stage:
            groups[record.point.batch].append(record)
    found = []
    for group in groups.values():
        defaults = [record for record in group if record.config == dict(default)]
        if defaults:
            found.append(Batch(defaults[0], [record for record in group if record is not defaults[0]]))
    return found


def score(record: Record, default_ns: float) -> tuple[int, float | None]:
    """Return the number of samples of a record and its time over the default's; the latter is None without a time."""
    if record.timing is None:
        return 0, None
    samples = record.timing.samples_ns
    return len(samples), statistics.median(samples) / default_ns


def distinct(configs: Sequence[Config]) -> Iterator[Config]:
    """Yield each configuration once, in order."""
    seen: list[dict[str, int | float | str | bool]] = []
    for config in configs:
        if dict(config) not in seen:
            seen.append(dict(config))
            yield config
