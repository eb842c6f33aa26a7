"""Sections: the records of one suite on one machine, which are the ones that may be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..results.record import Environment, Record, Timing
from ..results.record.identity import Identity
from ..results.record.prediction import Prediction
from .numbers import MISSING, counted, exact, number, plain, span
from .row import Facet, Row, places
from .table import table


@dataclass(frozen=True)
class RecordedMachine:
    """One environment and the records that were made in it; ``label`` tells it from the others of a report."""

    label: str
    environment: Environment
    records: list[Record]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Return the known facts about the machine, by name."""
        known = self.environment
        threads = sorted({record.environment.threads for record in self.records})
        return [
            ("device", plain(known.device)),
            ("cores", str(known.cores)),
            ("threads", ", ".join(map(str, threads))),
            ("memory", f"{number(known.memory_bytes / 2**30)} GiB"),
            ("system", plain(known.os)),
            ("Python", plain(known.python)),
            ("torch", plain(known.torch)),
            ("Triton", plain(known.triton or MISSING)),
            ("CUDA", plain(known.cuda or MISSING)),
            ("driver", plain(known.driver or MISSING)),
            ("CuPy", plain(known.cupy or MISSING)),
            ("routes ordered by", plain(known.routes_by or MISSING)),
            ("moebench", plain(known.moebench)),
            ("commit", ", ".join(dict.fromkeys(plain(record.commit) for record in self.records))),
            ("measured (UTC)", period(self.records)),
        ]


@dataclass(frozen=True)
class Section:
    """One suite on one machine; ``earlier`` records are replaced by a later one of the same identity.

    ``order`` maps the id of a record to its index in the report. ``predictions`` continue the same lines on more ranks
    than were measured; ``price`` is that of a device-hour.
    """

    machine: RecordedMachine
    records: list[Record]
    earlier: list[Record]
    order: Mapping[int, int]
    predictions: list[Prediction]
    price: float | None = None

    @property
    def repeated(self) -> int:
        return len(self.earlier)

    def index(self, record: Record) -> int:
        """Return the index of one of the section's records in the report's."""
        return self.order[id(record)]

    @property
    def suite(self) -> str:
        return plain(self.records[0].point.suite)

    @property
    def question(self) -> str:
        return plain(self.records[0].point.question)

    @property
    def axis(self) -> str:
        return plain(self.records[0].point.axis)

    @property
    def baseline(self) -> str:
        return plain(self.records[0].point.baseline)

    @cached_property
    def rows(self) -> list[Row]:
        return table(self.records, self.price)

    @cached_property
    def facets(self) -> dict[Facet, list[Row]]:
        grouped: dict[Facet, list[Row]] = {}
        for row in self.rows:
            grouped.setdefault(row.place.facet, []).append(row)
        return grouped

    def predicted(self, facet: Facet) -> list[Prediction]:
        """Return the predictions of a facet's line that have a time."""
        return [
            one
            for one in self.predictions
            if one.expected is not None
            and (facet.series, facet.dtype, facet.mode)
            == (plain(one.series), plain(str(one.problem.get("dtype"))), plain(str(one.problem.get("mode"))))
        ]

    @cached_property
    def balanced(self) -> list[Row]:
        """One row for every place with a balance, where loads or routers are compared on one layer; else none."""
        grouped = places(row for row in self.rows if row.record.balance).values()
        # A part of the layer solves another problem, whose sizes are not the layer's.
        first = [min(rows, key=lambda row: row.reference) for rows in grouped]
        compared: dict[tuple[object, ...], set[tuple[object, ...]]] = {}
        for row in first:
            problem = row.record.problem
            layer = tuple(problem.get(name) for name in _LAYER)
            compared.setdefault(layer, set()).add(tuple(problem.get(name) for name in _CHOICES))
        return first if any(len(choices) > 1 for choices in compared.values()) else []

    @cached_property
    def kernels(self) -> list[str]:
        return sorted({row.kernel for row in self.rows})

    @property
    def notes(self) -> list[str]:
        """Return sentences about how these numbers were made."""
        timings = [record.timing for record in self.records if record.timing]
        notes = []
        if any(record.point.stage for record in self.records):
            notes.append(
                "These are the trials of a search, each line one batch: `moebench tables build` derives from the file "
                "what won against the default, and `moebench tables show` shows it."
            )
        if timings:
            ways = sorted({f"{_CLOCKS[timing.clock]} {_CACHES[timing.caches]}" for timing in timings})
            samples = span([len(timing.samples_ns) for timing in timings], write=exact)
            notes.append(f"Timed by {' and '.join(ways)}, {samples} samples a median.")
        notes += _dropped(timings)
        if unread := [record.clocks.unread for record in self.records if record.clocks and record.clocks.unread]:
            notes.append(
                f"The device's state is not fully known for {counted(len(unread), 'record')}: {plain(unread[0])}."
            )
        if self.predictions and any(record.point.x == record.problem.get("ranks") for record in self.records):
            named = ", ".join(sorted({plain(one.machine) for one in self.predictions}))
            notes.append(f"Hollow marks on dashed lines are not measured: they are predictions for {named}.")
        if self.repeated:
            notes.append(f"{counted(self.repeated, 'earlier record')} of the same trials are replaced by the latest.")
        rates: dict[str, list[Record]] = {}
        for record in self.records:
            if record.roofline:
                rates.setdefault(plain(str(record.problem.get("dtype", ""))), []).append(record)
        for dtype, measured in rates.items():
            lines = [record.roofline for record in measured if record.roofline]
            notes.append(
                f"Lower bound in {dtype}: a matmul at {span([line.flops_per_s / 1e12 for line in lines])} TFLOP/s, "
                f"memory at {span([line.bytes_per_s / 1e9 for line in lines])} GB/s, both measured."
            )
            if disturbed := sum(line.disturbed for line in lines):
                notes.append(
                    f"Others used the cores whenever the rates of {counted(disturbed, 'record')} in {dtype} were "
                    "measured: the bound may be lower, and with it its share of the time."
                )
        return notes


_LAYER = ("T", "D", "F", "E", "K", "dtype", "mode", "ranks")
_CHOICES = ("router", "load")
_CLOCKS = {"perf_counter": "the host clock", "cuda_event": "device events"}
_CACHES = {
    "cold, flushed": "with caches cold by a flush",
    "cold, rotated": "with caches cold by rotation over inputs",
    "hot": "with a hot cache",
    "eager": "in eager calls",
}


def _dropped(timings: Sequence[Timing]) -> list[str]:
    """Return sentences about samples that were left out, and where it is not known which should have been."""
    notes = []
    if throttled := sum(timing.throttled for timing in timings):
        notes.append(f"{counted(throttled, 'sample')} taken while the device was throttled were left out.")
    if disturbed := sum(timing.disturbed or 0 for timing in timings):
        notes.append(f"{counted(disturbed, 'sample')} taken while others used the host's cores were left out.")
    if unwatched := sum(timing.disturbed is None and timing.clock == "perf_counter" for timing in timings):
        notes.append(f"Whether others used the host's cores was not watched for {counted(unwatched, 'record')}.")
    return notes


def sections(
    records: Sequence[Record], predictions: Sequence[Prediction] = (), price: float | None = None
) -> list[Section]:
    """Return the records by suite, then by machine, in order of appearance, with the predictions of their lines.

    Of several records of the same trial on the same machine the one made last counts.
    """
    found = machines(records)
    made_on = {id(record): order for order, machine in enumerate(found) for record in machine.records}
    order_of = {id(record): index for index, record in enumerate(records)}
    grouped: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        grouped.setdefault((record.point.suite, made_on[id(record)]), []).append(record)
    suites = list(dict.fromkeys(suite for suite, _ in grouped))
    return [
        _section(found[order], grouped[suite, order], order_of, predictions, price)
        for suite in suites
        for order in range(len(found))
        if (suite, order) in grouped
    ]


def _section(
    machine: RecordedMachine,
    records: list[Record],
    order: Mapping[int, int],
    predictions: Sequence[Prediction],
    price: float | None,
) -> Section:
    latest: dict[Identity, Record] = {}
    for record in sorted(records, key=lambda record: record.time):
        latest[record.identity.without("source")] = record
    kept = set(map(id, latest.values()))
    lines = {record.point.line for record in records}
    return Section(
        machine,
        [record for record in records if id(record) in kept],
        [record for record in records if id(record) not in kept],
        order,
        [one for one in predictions if one.series in lines],
        price,
    )


def machines(records: Sequence[Record]) -> list[RecordedMachine]:
    """Return the distinct environments, in order of appearance."""
    grouped: list[list[Record]] = []
    for record in records:
        for group in grouped:
            if not group[0].environment.differs(record.environment):
                group.append(record)
                break
        else:
            grouped.append([record])
    return [
        RecordedMachine(_label(group[0].environment, order if len(grouped) > 1 else 0), group[0].environment, group)
        for order, group in enumerate(grouped, start=1)
    ]


def _label(environment: Environment, order: int) -> str:
    return plain(environment.device) + (f" ({order})" if order else "")


def period(records: Sequence[Record]) -> str:
    """Return the time from the first to the last record, to the minute."""
    times = sorted(plain(record.time, 40).replace("T", " ")[:16] for record in records)
    return times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
