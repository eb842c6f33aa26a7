"""Verdicts: for every point of two sets of records, whether it became slower, or why that cannot be decided.

A point that passed and does not any more is broken. Times are compared process by process (`difference`). A point is
slower if it is significantly slower, by at least a floor; significance counts all points of the comparison (Benjamini
and Hochberg 1995). It is the same if it significantly differs by less than the floor, and else unclear.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from scipy.stats import false_discovery_control

from ..record import Record, Status
from ..record.identity import Identity
from ..stats import Interval
from .grouping import conditions, points
from .paired_difference import FEWEST, UNSEEN_NOISE, Difference, difference, difference_of_few, log_ratio

FLOOR: Final = 0.02  # of a time; less is not worth an alarm
COLDS_AGREE: Final = 0.02  # times of flushed and of rotated calls (docs/method.md)
CLOCKS: Final = 0.02  # apart, the clocks of a GPU explain a difference that would be worth an alarm
# False-discovery rate: at most 1 % of comparisons of equal sides report a slowdown, whatever their number of points.
FALSE_ALARMS: Final = 0.01


class Outcome(StrEnum):
    """The outcome of comparing a point, the worst first."""

    broken = "broken"
    slower = "slower"
    unclear = "unclear"
    incomparable = "incomparable"
    missing = "missing"
    new = "new"
    faster = "faster"
    same = "same"

    @property
    def worse(self) -> bool:
        return self in (Outcome.broken, Outcome.slower)

    @property
    def compared(self) -> bool:
        """True if both sides had results that can be compared."""
        return self not in (Outcome.incomparable, Outcome.missing, Outcome.new)

    @property
    def clear(self) -> bool:
        """True if it is known whether the point became worse."""
        return self not in (Outcome.unclear, Outcome.incomparable, Outcome.missing)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome at one point, the medians over its processes in ns, and the ratio of new to old with its interval.

    ``processes`` counts those of the old and of the new side that gave a time; ``reason`` explains the outcome where
    the numbers do not.
    """

    key: Identity
    status: Outcome
    reason: str = ""
    old_ns: float | None = None
    new_ns: float | None = None
    ratio: Interval | None = None
    processes: tuple[int, int] = (0, 0)


def compare(
    old: Sequence[Record], new: Sequence[Record], *, floor: float = FLOOR, keys: Collection[Identity] | None = None
) -> list[Verdict]:
    """Return a verdict on every point of either side, in order of appearance, or on those of ``keys`` alone.

    Every record of a point counts as a process. Only records on the machine of the newest one are compared.
    """
    before, after = points(old, new)
    asked = [key for key in dict.fromkeys((*before, *after)) if keys is None or key in keys]
    found = [_comparison(key, before.get(key, []), after.get(key, [])) for key in asked]
    timed = [one for one in found if isinstance(one, _Timed)]
    standings = iter(decide([one.difference for one in timed], floor=floor))
    wanted = enough_processes(len(timed))
    return [one.verdict(next(standings), wanted) if isinstance(one, _Timed) else one for one in found]


def enough_processes(timed: int) -> int:
    """Return the processes a side with which one point alone of ``timed`` can be slower.

    Of n pairs that all differ in one way the probability is 2⁻ⁿ, and the first of so many points needs `FALSE_ALARMS`
    over their number (Benjamini and Hochberg 1995).
    """
    return max(FEWEST, math.ceil(math.log2(max(1, timed) / FALSE_ALARMS)))


def decide(differences: Sequence[Difference], *, floor: float = FLOOR) -> list[Outcome]:
    """Return the outcomes of the points of one comparison."""
    if not differences:
        return []
    slower = false_discovery_control([one.p_slower for one in differences]) <= FALSE_ALARMS
    faster = false_discovery_control([one.p_faster for one in differences]) <= FALSE_ALARMS
    return [_standing(*one, floor) for one in zip(differences, slower, faster, strict=True)]


def _standing(difference: Difference, slower: bool, faster: bool, floor: float) -> Outcome:
    least, most, ratio = 1 / (1 + floor), 1 + floor, difference.ratio
    if slower and ratio.value >= most:
        return Outcome.slower
    if faster and ratio.value <= least:
        return Outcome.faster
    return Outcome.same if least < ratio.low and ratio.high < most else Outcome.unclear


@dataclass(frozen=True)
class _Timed:
    """A point with times on both sides: the samples of each process in order, None where it gave no time."""

    key: Identity
    old: list[list[float] | None]
    new: list[list[float] | None]
    reason: str

    @property
    def pairs(self) -> list[tuple[list[float], list[float]]]:
        """The samples of both sides where both gave a time."""
        return [(old, new) for old, new in zip(self.old, self.new, strict=False) if old and new]

    @property
    def few(self) -> bool:
        return len(self.pairs) < FEWEST

    @cached_property
    def difference(self) -> Difference:
        if self.few:
            return difference_of_few(_given(self.old), _given(self.new))
        return difference([log_ratio(old, new) for old, new in self.pairs])

    def verdict(self, standing: Outcome, wanted: int) -> Verdict:
        """Return the verdict; ``wanted`` is the number of processes a side with which it can always be a clear one."""
        few = ""
        if self.few:
            few = f"fewer than {FEWEST} processes a side: noise of {100 * UNSEEN_NOISE:g} % between them is assumed"
        elif standing is Outcome.unclear and len(self.pairs) < wanted:
            few = f"{len(self.pairs)} processes a side: among so many points {wanted} can tell"
        return Verdict(
            key=self.key,
            status=standing,
            reason="; ".join(filter(None, (self.reason, few))),
            old_ns=statistics.median(map(statistics.median, _given(self.old))),
            new_ns=statistics.median(map(statistics.median, _given(self.new))),
            ratio=self.difference.ratio,
            processes=(len(_given(self.old)), len(_given(self.new))),
        )


def _comparison(key: Identity, old: list[Record], new: list[Record]) -> Verdict | _Timed:
    """Return the verdict on a point, or its times where these decide."""
    if not old or not new:
        return Verdict(key=key, status=Outcome.missing if old else Outcome.new, reason=_failed(old or new))
    newest = new[-1]
    alike_old, alike_new = ([one for one in side if not conditions(one, newest)] for side in (old, new))
    if not alike_old:
        return Verdict(key=key, status=Outcome.incomparable, reason="; ".join(conditions(old[-1], newest)))
    return _outcome(key, _of_last_source(alike_old), _of_last_source(alike_new))


def _of_last_source(records: list[Record]) -> list[Record]:
    """Keep the records of the kernel's last sources: a file that was continued holds those of earlier ones too."""
    return [record for record in records if record.source == records[-1].source]


def _outcome(key: Identity, old: list[Record], new: list[Record]) -> Verdict | _Timed:
    """Return the same for records that were made under the same conditions."""
    failed_old, failed_new = _failed(old), _failed(new)
    if failed_old and failed_new:
        return Verdict(key=key, status=Outcome.incomparable, reason=f"{failed_old} / {failed_new}")
    if failed_new:
        return Verdict(key=key, status=Outcome.broken, reason=failed_new)
    if failed_old:
        return Verdict(key=key, status=Outcome.new, reason=f"was {failed_old}")
    times_old, times_new = _times(old), _times(new)
    if not any(times_old) or not any(times_new):
        lost = next(record for record in (*old, *new) if record.status.of_the_machine)
        return Verdict(key=key, status=Outcome.unclear, reason=f"{lost.status.value}: {lost.reason}")
    clock_old, clock_new = _clock(old), _clock(new)
    if clock_old and clock_new and abs(clock_new / clock_old - 1) > CLOCKS:
        return Verdict(key=key, status=Outcome.incomparable, reason=f"sm_mhz: {clock_old:g} / {clock_new:g}")
    was, now = old[-1].identity.config, new[-1].identity.config
    reasons = ("" if was == now else f"config: {was or 'none'} / {now or 'none'}", _colds(old, new))
    return _Timed(key, times_old, times_new, "; ".join(filter(None, reasons)))


def _failed(records: list[Record]) -> str:
    """Return how and why a point failed, or nothing. What the machine was to blame for is none."""
    failed = [record for record in records if record.status is not Status.passed and not record.status.of_the_machine]
    if not failed:
        return ""
    often = "" if len(failed) == len(records) else f" ({len(failed)} of {len(records)} processes)"
    return f"{failed[0].status.value}{often}: {failed[0].reason}"


def _times(records: list[Record]) -> list[list[float] | None]:
    """Return the samples of each process, None in the place of one that gave no time; places tell who are a pair."""
    return [record.timing.samples_ns if record.timing else None for record in records]


def _given(times: list[list[float] | None]) -> list[list[float]]:
    return [samples for samples in times if samples]


def _colds(*sides: list[Record]) -> str:
    """Return how each side made caches cold if they differ, which alone may explain a difference near the floor."""
    ways = [sorted({record.timing.caches for record in side if record.timing}) for side in sides]
    old, new = (" and ".join(of_side) for of_side in ways)
    return "" if old == new else f"caches: {old} / {new}, which agree within {100 * COLDS_AGREE:g} %"


def _clock(records: list[Record]) -> float | None:
    """Return the median clock of a GPU's multiprocessors in MHz."""
    clocks = [record.clocks.sm_mhz for record in records if record.clocks and record.clocks.sm_mhz is not None]
    return statistics.median(clocks) if clocks else None
