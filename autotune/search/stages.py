"""The tuner's records: which of them were measured in the same rounds, and what these say."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ...kernels.kernel import Config
from ...kernels.problem import Problem
from ...results.record import Environment, Record

SUITE = "tune"
Stage = Literal["search", "final", "cross", "held-out"]
HOT = ", hot caches"


@dataclass(frozen=True)
class Batch:
    """Records of one problem that were sampled in turn; ``default`` is one of them."""

    default: Record
    others: list[Record]


def series(stage: Stage, number: int, cache: Literal["cold", "hot"]) -> str:
    """What the records of one batch have in common; see `results.record.Point`."""
    return f"{stage} {number}{HOT if cache == 'hot' else ''}"


def stage_of(record: Record) -> str:
    """The stage in which a record was made."""
    return record.point.series.partition(" ")[0]


def last_number(records: Sequence[Record], stage: Stage, problem: Problem) -> int:
    """The highest number that a batch of a problem has in a stage, 0 where there is none."""
    mine = (record for record in records if record.key == problem.key and stage_of(record) == stage)
    words = (record.point.series.removesuffix(HOT).rpartition(" ")[2] for record in mine)
    return max((int(word) for word in words if word.isdecimal()), default=0)


def cache_of(record: Record) -> Literal["cold", "hot"]:
    """What its samples found in the caches."""
    return "hot" if record.point.series.endswith(HOT) else "cold"


def belongs(
    record: Record, *, kernel: str, source: str, environment: Environment, cache: Literal["cold", "hot"]
) -> bool:
    """Whether a record is of this kernel as it is now, on this machine, with caches like these."""
    return (
        record.point.suite == SUITE
        and record.kernel == kernel
        and record.source == source
        and cache_of(record) == cache
        and not record.environment.differs(environment)
    )


def batches(records: Sequence[Record], stage: Stage, problem: Problem, default: Config) -> list[Batch]:
    """What was measured of a problem in a stage, in order; a batch without the default tells nothing."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.key == problem.key and stage_of(record) == stage:
            groups[record.point.series].append(record)
    found = []
    for group in groups.values():
        defaults = [record for record in group if record.config == dict(default)]
        if defaults:
            found.append(Batch(defaults[0], [record for record in group if record is not defaults[0]]))
    return found


def score(record: Record, default_ns: float) -> tuple[int, float | None]:
    """How many samples a record has, and its time over the default's; None when it has no time."""
    if record.timing is None:
        return 0, None
    samples = record.timing.samples_ns
    return len(samples), statistics.median(samples) / default_ns


def distinct(configs: Sequence[Config]) -> Iterator[Config]:
    """Each configuration once, in order."""
    seen: list[dict[str, int | float | str | bool]] = []
    for config in configs:
        if dict(config) not in seen:
            seen.append(dict(config))
            yield config
