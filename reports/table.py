"""Rows and columns: what a page, a Markdown file and a terminal say about records, in the same words and numbers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import groupby
from typing import Final

from ..results.record import Phases, Record, Status
from ..results.references import REFERENCES
from ..results.stats import Interval, median, spread
from .numbers import MISSING, ends, exact, number, optional, plain, status_words

MIB: Final = 2**20


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


class Rank(StrEnum):
    """How a passed row compares with the others at its place."""

    fastest = "fastest"
    tied = "tied"
    alone = "only one"
    reference = "reference"
    slower = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One record as it is read: derived quantities in the units of the tables, None where they do not exist.

    ``varied`` are the choices of its configuration in which the kernel's records differ, ``rates`` the useful TFLOP/s
    of the references that passed at its place.
    """

    place: RowPlace
    record: Record
    median: Interval | None
    spread: float | None
    varied: frozenset[str] = frozenset()
    standing: Rank = Rank.slower
    rates: Mapping[str, float] = field(default_factory=dict)

    @property
    def kernel(self) -> str:
        return plain(self.record.kernel)

    @property
    def config(self) -> str:
        """The whole configuration in words."""
        return _words(self.record.config)

    @property
    def choice(self) -> str:
        """What of it not all records of the kernel share."""
        return _words({name: value for name, value in self.record.config.items() if name in self.varied})

    @property
    def passed(self) -> bool:
        return self.record.status is Status.passed

    @property
    def reference(self) -> bool:
        return self.record.kernel in REFERENCES

    @property
    def competes(self) -> bool:
        return self.passed and not self.reference

    @property
    def leads(self) -> bool:
        """Whether it is the fastest at its place, or tied with the fastest."""
        return self.standing in (Rank.fastest, Rank.tied)

    @property
    def outcome(self) -> str:
        """Its standing, or the status it ended with."""
        return self.standing.value if self.passed else status_words(self.record.status)

    @property
    def reason(self) -> str:
        return plain(self.record.reason)

    @property
    def bound(self) -> float | None:
        """Lower bound of the time, ms."""
        if self.record.work is None or self.record.roofline is None:
            return None
        return self.record.roofline.bound_ns(self.record.work) / 1e6

    @property
    def share(self) -> float | None:
        """Lower bound over median, 1 for a kernel that the machine could not beat."""
        return None if self.median is None or self.bound is None else self.bound / self.median.value

    @property
    def tokens_per_s(self) -> float | None:
        """None for a reference, whose tokens are routed rows."""
        tokens = self.record.problem.get("T")
        if self.median is None or self.reference or not isinstance(tokens, int):
            return None
        return tokens / self.median.value * 1e3

    @property
    def tflops(self) -> float | None:
        """Useful FLOPs per second, in 10^12."""
        if self.median is None or self.record.work is None:
            return None
        return self.record.work.useful_flops / self.median.value / 1e9

    def rate_over(self, reference: str) -> float | None:
        """Its useful FLOP/s over those of a reference at the same place."""
        rate = self.rates.get(reference)
        return self.tflops / rate if rate and self.tflops is not None else None

    @property
    def peak(self) -> float | None:
        """MiB that a call allocates beyond its inputs."""
        return None if self.record.memory is None else self.record.memory.peak / MIB

    @property
    def saved(self) -> float | None:
        """MiB kept for the backward, in training."""
        if self.record.memory is None or self.place.facet.mode != "train":
            return None
        return self.record.memory.saved / MIB

    @property
    def drop_rate(self) -> float | None:
        return self.record.work.drop_rate if self.passed and self.record.work else None

    @property
    def padding(self) -> float | None:
        """Executed over useful FLOPs."""
        work = self.record.work
        return work.executed_flops / work.useful_flops if self.passed and work and work.useful_flops else None

    @property
    def sent(self) -> float | None:
        """MiB that all ranks together sent in one call."""
        return sum(self.record.sent_bytes) / MIB if self.passed and self.record.sent_bytes else None

    @property
    def across(self) -> float | None:
        """MiB of that which left the node."""
        traffic = self.record.traffic
        return sum(traffic.across_bytes) / MIB if self.passed and traffic else None

    @property
    def copies(self) -> float | None:
        """Rows that left their rank over the routes that did: below 1 by deduplication, above it by padding."""
        traffic = self.record.traffic
        return sum(traffic.rows) / sum(traffic.routes) if self.passed and traffic and any(traffic.routes) else None

    @property
    def communicating(self) -> float | None:
        """Share of a call that the ranks spend in collectives once all are there."""
        return self._share(lambda phases: phases.communication_ns)

    @property
    def waiting(self) -> float | None:
        """Share of a call that they wait for the slowest of them."""
        return self._share(lambda phases: phases.waiting_ns)

    @property
    def hidden(self) -> float | None:
        """Share of the communication that passed behind computation."""
        return self.record.phases.overlap if self.passed and self.record.phases else None

    def _share(self, part: Callable[[Phases], Sequence[float]]) -> float | None:
        """A part of what the ranks do in a call."""
        phases = self.record.phases
        if not self.passed or phases is None:
            return None
        whole = sum(map(sum, (phases.compute_ns, phases.communication_ns, phases.waiting_ns)))
        return sum(part(phases)) / whole

    @property
    def energy(self) -> float | None:
        """Joules per call."""
        return None if self.record.clocks is None else self.record.clocks.energy_j


def table(records: Sequence[Record]) -> list[Row]:
    """The rows of one suite on one machine: line by line, along the axis, the fastest first and the failed last."""
    details, varied = _details(records), _varied(records)
    rows = [_row(record, detail, varied[record.kernel]) for record, detail in zip(records, details, strict=True)]
    facets = {facet: order for order, facet in enumerate(dict.fromkeys(row.place.facet for row in rows))}
    names = {place.x: order for order, place in enumerate(dict.fromkeys(row.place for row in rows))}

    def along(row: Row) -> tuple[int, bool, float]:
        place = row.place
        return (facets[place.facet], not place.numeric, float(place.x) if place.numeric else names[place.x])

    rows.sort(key=along)
    return [row for _, group in groupby(rows, key=along) for row in _ranked(list(group))]


def places(rows: Iterable[Row]) -> dict[RowPlace, list[Row]]:
    """The rows of every place, in order."""
    grouped: dict[RowPlace, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.place, []).append(row)
    return grouped


def where(place: RowPlace, axis: str) -> str:
    """A place in words."""
    facet = place.facet
    x = f"{axis} = {exact(place.x)}" if place.numeric else exact(place.x)
    return " · ".join(filter(None, (facet.series, x, facet.dtype, facet.mode, facet.detail)))


def leading(rows: Iterable[Row]) -> dict[str, Row]:
    """The row that speaks for each kernel at one place: its fastest configuration, or a failure if none passed."""
    best: dict[str, Row] = {}
    for row in sorted(rows, key=_speed):
        best.setdefault(row.kernel, row)
    return best


def _words(config: Mapping[str, object]) -> str:
    return plain(" ".join(f"{name}={value}" for name, value in sorted(config.items())))


def _varied(records: Sequence[Record]) -> dict[str, frozenset[str]]:
    """For every kernel the names in its configurations whose values differ between records."""
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        for name, value in record.config.items():
            values[record.kernel][name].add(str(value))
    return {
        record.kernel: frozenset(name for name, found in values[record.kernel].items() if len(found) > 1)
        for record in records
    }


def _row(record: Record, detail: str, varied: frozenset[str]) -> Row:
    samples = [sample / 1e6 for sample in record.timing.samples_ns] if record.timing else []
    facet = Facet(
        series=plain(record.point.line),
        dtype=plain(str(record.problem.get("dtype", ""))),
        mode=plain(str(record.problem.get("mode", ""))),
        detail=detail,
    )
    return Row(
        place=RowPlace(facet, record.point.x),
        record=record,
        median=median(samples) if samples else None,
        spread=spread(samples) if samples else None,
        varied=varied,
    )


def _details(records: Sequence[Record]) -> list[str]:
    """For every record, the fields in which the problems at its place differ, with its own values.

    References solve another problem by intent, so they do not count as a difference.
    """
    values: dict[tuple[object, ...], dict[str, set[str]]] = {}
    for record in records:
        if record.kernel not in REFERENCES:
            seen = values.setdefault(_corner(record), {})
            for name, value in _facts(record).items():
                seen.setdefault(name, set()).add(value)
    return [
        plain(
            ", ".join(
                f"{name} {value}"
                for name, value in _facts(record).items()
                if len(values.get(_corner(record), {}).get(name, ())) > 1
            )
        )
        for record in records
    ]


def _corner(record: Record) -> tuple[object, ...]:
    return (record.point.line, record.point.x, str(record.problem.get("dtype")), str(record.problem.get("mode")))


def _facts(record: Record) -> dict[str, str]:
    """The problem, and whether the cache was flushed: what must be equal for two times to be comparable."""
    facts = {name: str(value) for name, value in record.problem.items()}
    return facts | ({"cache": record.timing.cache} if record.timing else {})


def _speed(row: Row) -> float:
    return math.inf if row.median is None else row.median.value


def _ranked(rows: list[Row]) -> list[Row]:
    """The rows of one place with their standings: tied with the fastest is whose interval reaches into its own."""
    leaders = leading(rows)
    rates = {name: row.tflops for name in REFERENCES if (row := leaders.get(name)) and row.tflops}
    contest = [row for row in leaders.values() if row.competes]
    standings = {id(row): Rank.reference for row in rows if row.passed and not row.competes}
    if contest and contest[0].median:
        edge = contest[0].median.high
        front = [row for row in contest if row.median and row.median.low <= edge]
        shared = Rank.tied if len(front) > 1 else Rank.fastest
        standings |= dict.fromkeys(map(id, front), shared if len(contest) > 1 else Rank.alone)
    ranked = [replace(row, standing=standings.get(id(row), Rank.slower), rates=rates) for row in rows]
    return sorted(ranked, key=lambda row: (_speed(row), row.kernel))


@dataclass(frozen=True)
class Column:
    """One column: its heading with the unit, what a row shows in it, and how early a narrow terminal gives it up.

    A column whose every cell is empty or ``neutral`` is left out.
    """

    heading: str
    cell: Callable[[Row], str]
    yields: int = 0
    numeric: bool = True
    neutral: str = MISSING


def _text(value: str) -> str:
    return value or MISSING


def _percent(value: float | None) -> str:
    return optional(None if value is None else 100 * value)


def _rate_over(reference: str, row: Row) -> str:
    return _percent(row.rate_over(reference))


KERNEL: Final = Column("kernel", lambda row: row.kernel, numeric=False)
OUTCOME: Final = Column("outcome", lambda row: row.outcome, numeric=False)
MEASURES: Final = (
    Column("config", lambda row: _text(row.choice), yields=9, numeric=False),
    Column("median (ms)", lambda row: MISSING if row.median is None else number(row.median.value)),
    Column("95 % interval (ms)", lambda row: ends(row.median), yields=4),
    Column("spread (%)", lambda row: _percent(row.spread), yields=7),
    Column("tokens/s", lambda row: optional(row.tokens_per_s), yields=6),
    Column("useful TFLOP/s", lambda row: optional(row.tflops), yields=5),
    Column("of bound (%)", lambda row: _percent(row.share), yields=1),
    *(Column(f"of {name} (%)", partial(_rate_over, name), yields=2) for name in REFERENCES),
    Column("peak (MiB)", lambda row: optional(row.peak), yields=2),
    Column("saved for backward (MiB)", lambda row: optional(row.saved), yields=3),
    Column("dropped (%)", lambda row: _percent(row.drop_rate), yields=8),
    Column("padding (×)", lambda row: optional(row.padding), yields=8, neutral=number(1)),
    Column("sent (MiB)", lambda row: optional(row.sent), yields=3),
    Column("across nodes (MiB)", lambda row: optional(row.across), yields=4, neutral=number(0)),
    Column("copies a route", lambda row: optional(row.copies), yields=8),
    Column("communicating (%)", lambda row: _percent(row.communicating), yields=5),
    Column("waiting (%)", lambda row: _percent(row.waiting), yields=6),
    Column("hidden (%)", lambda row: _percent(row.hidden), yields=5, neutral=number(0)),
    Column("energy (J)", lambda row: optional(row.energy), yields=8),
)


def place_column(axis: str) -> Column:
    """Where on the axis a row stands."""
    return Column(plain(axis), lambda row: exact(row.place.x))


def place_columns(axis: str) -> list[Column]:
    """The columns that say where a row stands, its facet included; ``axis`` heads the place on the axis."""
    return [
        Column("series", lambda row: _text(row.place.facet.series), numeric=False),
        place_column(axis),
        Column("dtype", lambda row: _text(row.place.facet.dtype), numeric=False),
        Column("mode", lambda row: _text(row.place.facet.mode), numeric=False),
        Column("differs in", lambda row: _text(row.place.facet.detail), numeric=False),
    ]


def worth(columns: Iterable[Column], rows: Sequence[Row]) -> list[Column]:
    """The columns that say something about any of these rows."""
    return [column for column in columns if any(column.cell(row) not in ("", MISSING, column.neutral) for row in rows)]
