"""History: the time of a point at each commit on one machine, and the commits between which it changed."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ..record import Environment, Record
from ..record.identity import Identity
from .changepoint import changes
from .grouping import conditions, points

COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")  # neither unknown nor a changed tree


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The time of a point at a commit: the median over its processes in ns, their number, and the first's time.

    ``bound_ns`` is the lower bound of the time, the median over the processes, None where no process has one.
    """

    commit: str
    time: str
    ns: float
    processes: int
    bound_ns: float | None = None


@dataclass(frozen=True, kw_only=True)
class HistoryChange:
    """A change between two commits that were measured one after the other; ``ratio`` is the time after over before."""

    last_before: str
    first_after: str
    ratio: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Series:
    """One point on one machine, in the order in which its commits were first measured."""

    environment: Environment
    key: Identity
    measured: list[Measured]
    changes: list[HistoryChange]


def history(records: Sequence[Record]) -> list[Series]:
    """Return the series of all points, machine by machine, of records that passed at a commit without changes."""
    (found,) = points(dated(records))
    return [_series(key, alike) for key, everywhere in found.items() for alike in _machines(everywhere)]


def dated(records: Sequence[Record]) -> list[Record]:
    """Keep the records that passed at a commit whose sources were unchanged."""
    return [record for record in records if record.timing and COMMIT.fullmatch(record.commit)]


def _machines(records: Sequence[Record]) -> list[list[Record]]:
    """Group records by the conditions that they were made under."""
    machines: list[list[Record]] = []
    for record in records:
        for machine in machines:
            if not conditions(machine[0], record):
                machine.append(record)
                break
        else:
            machines.append([record])
    return machines


def _series(key: Identity, records: Sequence[Record]) -> Series:
    commits: dict[str, list[Record]] = {}
    for record in records:
        commits.setdefault(record.commit, []).append(record)
    measured = [_measured(commit, made) for commit, made in commits.items()]
    return Series(environment=records[0].environment, key=key, measured=measured, changes=_changes(measured))


def _measured(commit: str, records: Sequence[Record]) -> Measured:
    medians = [statistics.median(record.timing.samples_ns) for record in records if record.timing]
    bounds = [record.roofline.bound_ns(record.work) for record in records if record.roofline and record.work]
    return Measured(
        commit=commit,
        time=records[0].time,
        ns=statistics.median(medians),
        processes=len(medians),
        bound_ns=statistics.median(bounds) if bounds else None,
    )


def _changes(measured: Sequence[Measured]) -> list[HistoryChange]:
    """Find changes in the logarithms of the times: there a slowdown is as large as the speed-up that undoes it."""
    logs = [math.log(one.ns) for one in measured]
    found = changes(logs)
    edges = [0, *(change.at for change in found), len(logs)]
    levels = [statistics.median(logs[start:stop]) for start, stop in pairwise(edges)]
    return [
        HistoryChange(
            last_before=measured[change.at - 1].commit,
            first_after=measured[change.at].commit,
            ratio=math.exp(after - before),
            p=change.p,
        )
        for change, (before, after) in zip(found, pairwise(levels), strict=True)
    ]
