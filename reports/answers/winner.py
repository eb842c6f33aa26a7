"""Winner of a contest: which kernel is fastest over several places, by how much, and how sure that is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from ...results.stats import Interval, mean_ratio
from ..numbers import counted, number, number_of
from ..row import Row, RowPlace, leading


@dataclass(frozen=True, kw_only=True)
class Winner:
    """The kernel that is fastest, alone or tied, at most of the places where two or more competitors passed.

    ``led`` and ``contests`` count places. ``margin`` is the time of the fastest other kernel over that of the winner,
    the geometric mean over the places of the contest at which the winner passed, with its interval.
    """

    kernel: str
    led: int
    contests: int
    margin: Interval

    @property
    def sure(self) -> bool:
        """Return whether the winner is faster than the best of the others, beyond the noise of these samples."""
        return self.margin.low > 1

    @property
    def standing(self) -> str:
        """Return how it stands to the best other kernel of each place: faster, tied, or mixed where it is behind."""
        return "faster" if self.sure else "mixed" if self.margin.high < 1 else "tied"

    @property
    def words(self) -> str:
        """Return the margin with its interval."""
        return f"{number(self.margin.value)}× ({number(self.margin.low)} – {number(self.margin.high)})"

    @property
    def where(self) -> str:
        """Return at how many of the places of the contest it is the fastest."""
        if self.contests == 1:
            return "at the one point compared"
        return f"at {number_of(self.led)} of {counted(self.contests, 'point')}"


def winner(rows: Sequence[Row]) -> Winner | None:
    """Return the winner over the places of some rows, None where no place has two competitors that passed.

    Of two kernels that lead at as many places, the one wins whose time over the fastest is less on average.
    """
    contests = contested(rows)
    if not contests:
        return None
    led: Counter[str] = Counter()
    behind: dict[str, list[float]] = defaultdict(list)
    for best in contests:
        fastest = min(_ms(row) for row in best.values())
        for kernel, row in best.items():
            led[kernel] += row.leads
            behind[kernel].append(log(_ms(row) / fastest))
    kernel = min(led, key=lambda one: (-led[one], sum(behind[one]) / len(behind[one]), one))
    pairs = []
    for best in contests:
        others = [row for name, row in best.items() if name != kernel]
        if kernel in best and others:
            pairs.append((_samples(min(others, key=_ms)), _samples(best[kernel])))
    return Winner(kernel=kernel, led=led[kernel], contests=len(contests), margin=mean_ratio(pairs))


def contested(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """Return for each place where two or more competitors passed the fastest row of each of these kernels."""
    grouped: dict[tuple[str, RowPlace], list[Row]] = defaultdict(list)
    for row in rows:
        if row.competes:
            grouped[row.record.point.suite, row.place].append(row)
    found = [leading(group) for group in grouped.values()]
    return [best for best in found if len(best) > 1]


def _ms(row: Row) -> float:
    return row.median.value if row.median else float("inf")


def _samples(row: Row) -> list[float]:
    return row.record.timing.samples_ns if row.record.timing else []
