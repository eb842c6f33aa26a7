"""Records of regression checks, grouped by what they measured and by the conditions they were made under."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from ..record import Record
from ..record.identity import Identity

SHORTEST_NS: Final = 1e-3
LONGEST_NS: Final = 1e18  # thirty years; ratios of times in between are numbers


def points(*sides: Sequence[Record]) -> list[dict[Identity, list[Record]]]:
    """Return the records of each side by what they measured, oldest first, whatever the sources of the kernel.

    Configurations are distinguished only where a side has several of a kernel: elsewhere, a changed default is part of
    what is compared. Times that no clock gives are left out.
    """
    several = {key for side in sides for key, configs in _configs(side).items() if len(configs) > 1}
    grouped: list[dict[Identity, list[Record]]] = []
    for side in sides:
        found = defaultdict(list)
        for record in sorted(side, key=lambda record: record.time):
            if record.timing and not all(SHORTEST_NS <= sample <= LONGEST_NS for sample in record.timing.samples_ns):
                continue
            key, place = record.identity.without("source"), _place(record)
            found[key if place in several else place].append(record)
        grouped.append(dict(found))
    return grouped


def conditions(record: Record, other: Record) -> list[str]:
    """Return what differs in the conditions of two records of a point, as ``name: one / other``.

    The version of moebench does not count: it is what is compared.
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


def _place(record: Record) -> Identity:
    return record.identity.without("config", "source")


def _configs(records: Sequence[Record]) -> dict[Identity, set[str]]:
    """Return the configurations of every kernel at every place. A worker that died leaves a record without one."""
    found = defaultdict(set)
    for record in records:
        if record.config:
            found[_place(record)].add(record.identity.config)
    return found
