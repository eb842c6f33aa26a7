"""Row: one record as a report shows it, beside the others that were measured at the same place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..results.record import Record, Status
from ..results.references import NOT_COMPETING, PARTS
from ..results.stats import Interval
from .numbers import exact, number, place_words, plain, span, status_words


@dataclass(frozen=True)
class Facet:
    """One line family under one way of running it: what a panel of the plot shows.

    ``detail`` names the fields of the problem in which records of equal series, x, dtype and mode still differ, as
    records of several runs may; it is empty where they do not.
    """

    series: str
    dtype: str
    mode: str
    detail: str

    @property
    def title(self) -> str:
        return " · ".join(part for part in (self.series, self.dtype, self.mode, self.detail) if part)


@dataclass(frozen=True)
class RowPlace:
    """A point at which kernels compete: a facet and a place on its axis."""

    facet: Facet
    x: float | str

    @property
    def numeric(self) -> bool:
        return isinstance(self.x, float) and math.isfinite(self.x)

    def title(self, axis: str) -> str:
        """Return the name of the place, where ``axis`` is the name of what is on its axis."""
        x = place_words(axis, self.x)
        facet = self.facet
        return " · ".join(filter(None, (facet.series, x, facet.dtype, facet.mode, facet.detail)))


class Rank(StrEnum):
    """How a passed row compares with the others at its place."""

    fastest = "fastest"
    tied = "tied"
    alone = "only one"
    reference = "reference"
    part = "part"
    slower = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One record with its statistics, its rank, and the quantities that answers and plots need as well as tables.

    ``varied`` are the choices of its configuration in which the kernel's records differ, ``rates`` the useful TFLOP/s
    of the references that passed at its place, ``fastest_ms`` the median of the fastest competitor there and
    ``baseline_ms`` that of the suite's baseline. ``price`` is that of a device-hour, if the reader states one. A
    quantity that does not exist is None.
    """

    place: RowPlace
    record: Record
    median: Interval | None
    spread: float | None
    varied: frozenset[str] = frozenset()
    rank: Rank = Rank.slower
    rates: Mapping[str, float] = field(default_factory=dict)
    fastest_ms: float | None = None
    baseline_ms: float | None = None
    price: float | None = None

    @property
    def kernel(self) -> str:
        return plain(self.record.kernel)

    @property
    def baseline(self) -> str:
        return plain(self.record.point.baseline)

    @property
    def config(self) -> str:
        """Return the whole configuration as ``name=value``."""
        return _words(self.record.config)

    @property
    def choice(self) -> str:
        """Return the part of the configuration that not all records of the kernel share."""
        return _words({name: value for name, value in self.record.config.items() if name in self.varied})

    @property
    def passed(self) -> bool:
        return self.record.status is Status.passed

    @property
    def reference(self) -> bool:
        return self.record.kernel in NOT_COMPETING

    @property
    def competes(self) -> bool:
        return self.passed and not self.reference

    @property
    def leads(self) -> bool:
        """Return whether the row is the fastest at its place, or tied with the fastest."""
        return self.rank in (Rank.fastest, Rank.tied)

    @property
    def standing(self) -> str:
        """Return the rank of a row that passed; of a part of the layer, its share of the fastest layer's time."""
        share = self.share_of_layer
        return self.rank.value if share is None else f"{number(100 * share)} % of the layer"

    @property
    def outcome(self) -> str:
        """Return the rank of a row that passed, or the status with which it ended."""
        return self.rank.value if self.passed else status_words(self.record.status)

    @property
    def reason(self) -> str:
        return plain(self.record.reason)

    @property
    def bound(self) -> float | None:
        """Return the lower bound of the time in ms."""
        if self.record.work is None or self.record.roofline is None:
            return None
        return self.record.roofline.bound_ns(self.record.work) / 1e6

    @property
    def share(self) -> float | None:
        """Return the lower bound over the median: 1 for a kernel that the machine cannot beat."""
        return None if self.median is None or self.bound is None else self.bound / self.median.value

    @property
    def tflops(self) -> float | None:
        """Return useful FLOPs per second, in 10^12."""
        if self.median is None or self.record.work is None:
            return None
        return self.record.work.useful_flops / self.median.value / 1e9

    def rate_over(self, reference: str) -> float | None:
        """Return the useful FLOP/s over those of a reference at the same place."""
        rate = self.rates.get(reference)
        return self.tflops / rate if rate and self.tflops is not None else None

    @property
    def share_of_layer(self) -> float | None:
        """Return the time of a part of the layer over that of the fastest layer at its place."""
        if self.record.kernel not in PARTS or self.median is None or not self.fastest_ms:
            return None
        return self.median.value / self.fastest_ms

    @property
    def drop_rate(self) -> float | None:
        return self.record.work.drop_rate if self.passed and self.record.work else None


def places(rows: Iterable[Row]) -> dict[RowPlace, list[Row]]:
    """Return the rows of every place, in order."""
    grouped: dict[RowPlace, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.place, []).append(row)
    return grouped


def shape(rows: Iterable[Row], beside: str = "") -> str:
    """Return the sizes of the problems that rows solve, without what the words ``beside`` it say already.

    A reference solves another problem than the one that was asked for; its sizes do not count.
    """
    problems = [row.record.problem for row in rows if not row.reference]
    said = []
    for letter in "TDFEK":
        sizes = {size for problem in problems if isinstance(size := problem.get(letter), int)}
        if sizes and f"{letter} = {exact(max(sizes))}" not in beside and f"{letter}={max(sizes)}" not in beside:
            said.append(f"{letter}={span([*sizes], write=str)}")  # as `--shape` takes them
    return ", ".join(said)


def shaped(title: str, rows: Iterable[Row]) -> str:
    """Return a title with the sizes of the problems that it does not tell."""
    return " · ".join(filter(None, (title, shape(rows, title))))


def leading(rows: Iterable[Row]) -> dict[str, Row]:
    """Return one row for each kernel at a place: its fastest configuration, or a failure if none passed."""
    best: dict[str, Row] = {}
    for row in sorted(rows, key=speed):
        best.setdefault(row.kernel, row)
    return best


def lower_bound(rows: Iterable[Row]) -> float | None:
    """Return the lowest lower bound of the competitors at one place in ms; a reference solves another problem."""
    return min((row.bound for row in rows if row.bound is not None and not row.reference), default=None)


def speed(row: Row) -> float:
    """Return the median in ms, infinite where there is none: the key that sorts the fastest first."""
    return math.inf if row.median is None else row.median.value


def _words(config: Mapping[str, object]) -> str:
    return plain(" ".join(f"{name}={value}" for name, value in sorted(config.items())))
