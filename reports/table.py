"""The table of a section: its records as rows, in order, with the rank of each at its place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from ..results.record import Record
from ..results.references import NOT_COMPETING, PARTS, REFERENCES
from ..results.stats import median, spread
from .numbers import plain
from .row import Facet, Rank, Row, RowPlace, leading, speed


def table(records: Sequence[Record], price: float | None = None) -> list[Row]:
    """Return the rows of one suite on one machine: by line, then along the axis, then the fastest first.

    Trials that did not pass are last at their place. ``price`` is that of a device-hour.
    """
    details, varied, dtypes = _details(records), _varied(records), _dtypes(records)
    rows = [
        _row(record, dtype, detail, varied[record.kernel], price)
        for record, dtype, detail in zip(records, dtypes, details, strict=True)
    ]
    facets = {facet: order for order, facet in enumerate(dict.fromkeys(row.place.facet for row in rows))}
    names = {place.x: order for order, place in enumerate(dict.fromkeys(row.place for row in rows))}

    def along(row: Row) -> tuple[int, bool, float]:
        place = row.place
        return (facets[place.facet], not place.numeric, float(place.x) if place.numeric else names[place.x])

    rows.sort(key=along)
    return [row for _, group in groupby(rows, key=along) for row in _ranked(list(group))]


def _varied(records: Sequence[Record]) -> dict[str, frozenset[str]]:
    """Return for every kernel the names in its configurations whose values differ between records."""
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        for name, value in record.config.items():
            values[record.kernel][name].add(str(value))
    return {
        record.kernel: frozenset(name for name, found in values[record.kernel].items() if len(found) > 1)
        for record in records
    }


def _dtypes(records: Sequence[Record]) -> list[str]:
    """Return the dtype of the place of every record: of a part, the one dtype that the layers at its point have.

    A router works in float32 whatever the experts are in.
    """
    of_layers: dict[tuple[object, ...], set[str]] = defaultdict(set)
    for record in records:
        if record.kernel not in NOT_COMPETING:
            of_layers[_point(record)].add(str(record.problem.get("dtype", "")))
    found = []
    for record in records:
        beside = of_layers[_point(record)] if record.kernel in PARTS else set()
        found.append(next(iter(beside)) if len(beside) == 1 else str(record.problem.get("dtype", "")))
    return found


def _point(record: Record) -> tuple[object, ...]:
    return (record.point.line, record.point.x, str(record.problem.get("mode")))


def _row(record: Record, dtype: str, detail: str, varied: frozenset[str], price: float | None) -> Row:
    samples = [sample / 1e6 for sample in record.timing.samples_ns] if record.timing else []
    facet = Facet(
        series=plain(record.point.line),
        dtype=plain(dtype),
        mode=plain(str(record.problem.get("mode", ""))),
        detail=detail,
    )
    return Row(
        place=RowPlace(facet, record.point.x),
        record=record,
        median=median(samples) if samples else None,
        spread=spread(samples) if samples else None,
        varied=varied,
        price=price,
    )


def _details(records: Sequence[Record]) -> list[str]:
    """Return for every record the fields in which the problems at its place differ, with its own values.

    References and parts solve another problem on purpose, so they do not count as a difference.
    """
    corners = [_corner(record) for record in records]
    apart: dict[tuple[object, ...], list[dict[str, object]]] = defaultdict(list)
    for record, corner in zip(records, corners, strict=True):
        if record.kernel not in NOT_COMPETING and (known := _facts(record)) not in apart[corner]:
            apart[corner].append(known)
    differing = {corner: _differing(found) for corner, found in apart.items() if len(found) > 1}
    return [
        plain(", ".join(f"{name} {value}" for name, value in _facts(record).items() if name in differing[corner]))
        if corner in differing
        else ""
        for record, corner in zip(records, corners, strict=True)
    ]


def _differing(found: Sequence[Mapping[str, object]]) -> set[str]:
    """Return the names that have several values; a name that one lacks has no other value there."""
    values: dict[str, set[str]] = defaultdict(set)
    for facts in found:
        for name, value in facts.items():
            values[name].add(str(value))
    return {name for name, texts in values.items() if len(texts) > 1}


def _corner(record: Record) -> tuple[object, ...]:
    return (*_point(record), str(record.problem.get("dtype")))


def _facts(record: Record) -> dict[str, object]:
    """Return what must be equal for two times to be comparable: the problem, and how calls were timed."""
    return {**record.problem, **({"cache": record.timing.caches} if record.timing else {})}


def _ranked(rows: list[Row]) -> list[Row]:
    """Return the rows of one place with their ranks: tied is a row whose interval reaches into the fastest one's."""
    leaders = leading(rows)
    rates = {name: row.tflops for name in REFERENCES if (row := leaders.get(name)) and row.tflops}
    contest = [row for row in leaders.values() if row.competes]
    ranks = {
        id(row): Rank.part if row.record.kernel in PARTS else Rank.reference
        for row in rows
        if row.passed and not row.competes
    }
    fastest_ms = contest[0].median.value if contest and contest[0].median else None
    if contest and contest[0].median:
        edge = contest[0].median.high
        front = [row for row in contest if row.median and row.median.low <= edge]
        shared = Rank.tied if len(front) > 1 else Rank.fastest
        ranks |= dict.fromkeys(map(id, front), shared if len(contest) > 1 else Rank.alone)
    baseline_ms = next((row.median.value for row in contest if row.kernel == row.baseline and row.median), None)
    ranked = [
        replace(
            row,
            rank=ranks.get(id(row), Rank.slower),
            rates=rates,
            fastest_ms=fastest_ms,
            baseline_ms=baseline_ms,
        )
        for row in rows
    ]
    return sorted(ranked, key=lambda row: (speed(row), row.kernel))
