"""Comparison of two files of records, point by point: two commits, versions or machines side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pydantic import JsonValue

from ...results.record import Record
from ...results.record.identity import Identity
from ...results.regression.grouping import conditions, points
from ...results.regression.settling import Remedy, settling
from ...results.regression.verdicts import FLOOR, Outcome, Verdict, compare
from ...results.stats import Interval, mean_ratio, median, ratio
from ..answers.winner import Winner, winner
from ..numbers import counted, exact, number_of, plain
from ..section import RecordedMachine, Section, machines, sections


@dataclass(frozen=True, kw_only=True)
class ComparedSide:
    """One side of a comparison: the name that the reader gave it, its records, and where they were made."""

    name: str
    records: Sequence[Record]

    @cached_property
    def machines(self) -> list[RecordedMachine]:
        return machines(self.records)

    @cached_property
    def sections(self) -> list[Section]:
        return sections(self.records)

    @property
    def commits(self) -> str:
        return ", ".join(dict.fromkeys(plain(record.commit, 20) for record in self.records))


@dataclass(frozen=True, kw_only=True)
class ComparedPoint:
    """One kernel at one point on both sides: medians in ms, and new over old with its interval.

    ``verdict`` is None where the conditions differ, such as the machine or a version: ``reason`` then says which. A
    side without a time has no median, and there is no ratio. ``old_record`` and ``new_record`` are the last records of
    the sides, None where a side has none.
    """

    key: Identity
    old_record: Record | None
    new_record: Record | None
    old: Interval | None
    new: Interval | None
    old_samples_ns: Sequence[float]
    new_samples_ns: Sequence[float]
    ratio: Interval | None
    verdict: Outcome | None
    reason: str

    @property
    def kernel(self) -> str:
        return plain(" ".join(filter(None, (self.key.kernel, self.key.config))))

    @property
    def place(self) -> str:
        """Return the series and the place on the axis."""
        return " · ".join(filter(None, (plain(self.key.series), exact(self.key.x))))

    @property
    def suite(self) -> str:
        return plain(self.key.suite)

    @property
    def standing(self) -> str:
        return self.verdict.value if self.verdict else "not judged"


@dataclass(frozen=True, kw_only=True)
class ComparedSuite:
    """One suite on both sides: the geometric mean of new over old, and the winner of each side."""

    name: str
    points: int
    ratio: Interval | None
    verdicts: str
    old_winner: Winner | None
    new_winner: Winner | None


@dataclass(frozen=True)
class SideBySide:
    """Two sides, and what became of every point.

    ``floor`` is the least slowdown that counts, as a share of the old time.
    """

    old: ComparedSide
    new: ComparedSide
    floor: float = FLOOR

    @cached_property
    def verdicts(self) -> list[Verdict]:
        return compare(self.old.records, self.new.records, floor=self.floor)

    @cached_property
    def points(self) -> list[ComparedPoint]:
        """Return the points of either side, in order of appearance."""
        before, after = points(self.old.records, self.new.records)
        return [_point(one, before.get(one.key, []), after.get(one.key, [])) for one in self.verdicts]

    @property
    def records(self) -> list[Record]:
        """Return the records of both sides, the old ones first."""
        return [*self.old.records, *self.new.records]

    @cached_property
    def suites(self) -> list[ComparedSuite]:
        grouped: dict[str, list[ComparedPoint]] = {}
        for point in self.points:
            grouped.setdefault(point.suite, []).append(point)
        return [self._suite(name, group) for name, group in grouped.items()]

    @cached_property
    def differences(self) -> list[str]:
        """Return what differs between the machines and versions of the sides, empty where verdicts are possible."""
        return list(dict.fromkeys(point.reason for point in self.points if point.verdict is None and point.ratio))

    @property
    def sentence(self) -> str:
        """Return the answer in one sentence."""
        timed = [point for point in self.points if point.ratio]
        if not timed:
            return "The two sides have no point in common that passed on both."
        judged = Counter(point.verdict for point in self.points if point.verdict)
        said = [f"{number_of(judged[outcome])} {outcome.value}" for outcome in Outcome if judged[outcome]]
        if apart := sum(point.verdict is None for point in self.points):
            said.append(f"{number_of(apart)} not judged")
        if all(point.verdict is None for point in timed):
            return (
                f"{counted(len(timed), 'point')} in common, measured under different conditions: ratios are shown, and "
                "no verdict is given."
            )
        return f"Of {counted(len(self.points), 'point')}: {', '.join(said)}."

    @property
    def remedy(self) -> Remedy | None:
        """Return the command that would settle what is unclear, None where nothing is."""
        found = settling(self.old.records, self.new.records, self.verdicts)
        return found and replace(found, command=plain(found.command))

    def plain(self) -> dict[str, JsonValue]:
        """Return the comparison as plain data for JSON: the points, in ms, and the sentences."""
        return {
            "old": self.old.name,
            "new": self.new.name,
            "answer": self.sentence,
            "remedy": self.remedy.command if self.remedy else None,
            "points": [
                {
                    **point.key.plain(),
                    "old_ms": point.old.value if point.old else None,
                    "new_ms": point.new.value if point.new else None,
                    "ratio": [point.ratio.value, point.ratio.low, point.ratio.high] if point.ratio else None,
                    "verdict": point.verdict.value if point.verdict else None,
                    "reason": point.reason,
                }
                for point in self.points
            ],
        }

    def _suite(self, name: str, group: Sequence[ComparedPoint]) -> ComparedSuite:
        timed = [(point.new_samples_ns, point.old_samples_ns) for point in group if point.ratio]
        counts = Counter(point.standing for point in group)
        return ComparedSuite(
            name=name,
            points=len(group),
            ratio=mean_ratio(timed) if timed else None,
            verdicts=", ".join(f"{number_of(count)} {standing}" for standing, count in counts.items()),
            old_winner=_winner(self.old, name),
            new_winner=_winner(self.new, name),
        )


def _winner(side: ComparedSide, suite: str) -> Winner | None:
    """Return the winner of a suite on a side, of the last machine that ran it."""
    found = [section for section in side.sections if section.suite == suite]
    return winner(found[-1].rows) if found else None


def _point(verdict: Verdict, old: Sequence[Record], new: Sequence[Record]) -> ComparedPoint:
    """Return a point with its verdict, or with the ratio alone where only the conditions forbid one."""
    old_ns, new_ns = (_samples(side) for side in (old, new))
    both = bool(old_ns and new_ns)
    apart = verdict.status is Outcome.incomparable and both
    return ComparedPoint(
        key=verdict.key,
        old_record=old[-1] if old else None,
        new_record=new[-1] if new else None,
        old=_median(old_ns),
        new=_median(new_ns),
        old_samples_ns=old_ns,
        new_samples_ns=new_ns,
        ratio=verdict.ratio or (ratio(new_ns, old_ns) if apart else None),
        verdict=None if apart else verdict.status,
        reason=plain("; ".join(conditions(old[-1], new[-1])) or verdict.reason if apart else verdict.reason),
    )


def _samples(records: Sequence[Record]) -> list[float]:
    """Return the samples of all processes of a side that ran under the conditions of the last that has a time."""
    timed = [record for record in records if record.timing]
    alike = [record for record in timed if not conditions(record, timed[-1])]
    return [sample for record in alike if record.timing for sample in record.timing.samples_ns]


def _median(samples_ns: Sequence[float]) -> Interval | None:
    return median([sample / 1e6 for sample in samples_ns]) if samples_ns else None
