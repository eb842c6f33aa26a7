"""Points: which records are about the same thing, and which of these were made under the same conditions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..record import Record

SHORTEST_NS: Final = 1e-3
LONGEST_NS: Final = 1e18  # thirty years; ratios of times in between are numbers


@dataclass(frozen=True, kw_only=True)
class Key:
    """A kernel on a problem at a place of a suite.

    ``config`` is empty where it ran in one configuration: what becomes of a default is part of what is compared.
    """

    suite: str
    series: str
    x: float | str
    problem: str
    kernel: str
    config: str = ""


def points(*sides: Sequence[Record]) -> list[dict[Key, list[Record]]]:
    """The records of each side by what they are about, oldest first.

    Configurations are told apart where a side has several of a kernel. Times that no clock gives are left out.
    """
    several = {key for side in sides for key, configs in _configs(side).items() if len(configs) > 1}
    grouped: list[dict[Key, list[Record]]] = []
    for side in sides:
        found = defaultdict(list)
        for record in sorted(side, key=lambda record: record.time):
            if record.timing and not all(SHORTEST_NS <= sample <= LONGEST_NS for sample in record.timing.samples_ns):
                continue
            key = _place(record)
            found[replace(key, config=_config(record)) if key in several else key].append(record)
        grouped.append(dict(found))
    return grouped


def conditions(record: Record, other: Record) -> list[str]:
    """What differs in the conditions that two records of a point were made under, as ``name: one / other``.

    The version of moebench does not count, being what is compared.
    """
    here, there = record.environment, other.environment
    found = here.model_copy(update={"moebench": there.moebench}).differs(there)
    if here.threads != there.threads:
        found.append(f"threads: {here.threads} / {there.threads}")
    if record.timing and other.timing:
        for name in ("clock", "cache"):
            one, another = getattr(record.timing, name), getattr(other.timing, name)
            if one != another:
                found.append(f"{name}: {one} / {another}")
    return found


def _place(record: Record) -> Key:
    at = record.point
    return Key(suite=at.suite, series=at.line, x=at.x, problem=record.key, kernel=record.kernel)


def _config(record: Record) -> str:
    return record.identity[-1]


def _configs(records: Sequence[Record]) -> dict[Key, set[str]]:
    """Of every kernel at every place; a worker that died leaves a record without one."""
    found = defaultdict(set)
    for record in records:
        if record.config:
            found[_place(record)].add(_config(record))
    return found
