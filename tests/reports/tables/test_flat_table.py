"""Flat tables have a column for what differs and say once what all rows share."""

from __future__ import annotations

from collections.abc import Callable

from moebench.reports.columns import Column, place_columns
from moebench.reports.measures import columns, heading
from moebench.reports.section import sections
from moebench.reports.tables.flat_table import FlatTable, flat_table, size_columns
from moebench.results.record import Record, Status

Make = Callable[..., Record]


def _table(records: list[Record]) -> FlatTable:
    (section,) = sections(records)
    return flat_table(section.rows, place_columns(section.axis), columns(), kept=(heading("median_ms"),))


def _headings(found: list[Column]) -> list[str]:
    return [column.heading for column in found]


def test_what_all_rows_share_is_said_once(make: Make) -> None:
    table = _table([make(x=float(x), ms=1.0, problem={"T": x}) for x in (1, 2, 4)])
    shared = dict(table.shared)
    assert shared["series"] == "small"
    assert shared["dtype"] == "bfloat16"
    assert "tokens" in _headings(table.places)
    assert "dtype" not in _headings(table.places)
    assert heading("median_ms") in _headings(table.figures), "equal medians are no coincidence to hide"
    assert [line.places[0] for line in table.rows] == ["1", "2", "4"]


def test_a_failure_does_not_make_figures_differ(make: Make) -> None:
    records = [make(x=float(x), status=Status.crashed if x == 3 else Status.passed) for x in (1, 2, 3)]
    assert "peak (MiB)" in dict(_table(records).shared)


def test_two_rows_share_nothing(make: Make) -> None:
    assert _table([make(x=1.0), make(x=2.0)]).shared == []


def test_a_column_of_nothing_is_left_out(make: Make) -> None:
    table = _table([make(x=float(x)) for x in (1, 2, 3)])
    every = [*_headings(table.places), *_headings(table.figures), *dict(table.shared)]
    assert "differs in" not in every
    assert "saved for backward (MiB)" not in every


def test_every_row_has_a_text_for_every_column(sweep: list[Record]) -> None:
    for section in sections(sweep):
        table = flat_table(section.rows, place_columns(section.axis), columns())
        for line in table.rows:
            assert len(line.places) == len(table.places)
            assert len(line.figures) == len(table.figures)


def test_sizes_are_columns_but_not_the_one_on_the_axis(make: Make) -> None:
    (section,) = sections([make(x=float(x), problem={"T": x, "D": 8 * x}) for x in (1, 2)])
    assert _headings(size_columns(section.rows)) == ["D", "F", "E", "K"]
    (section,) = sections([make(x=1024.0)])
    assert _headings(size_columns(section.rows)) == ["T", "D", "F", "E", "K"], "one place is not an axis"


def test_a_reference_does_not_make_sizes_differ(make: Make) -> None:
    records = [make("a", x=1.0), make("b", x=1.0), make("dense", x=1.0, problem={"E": 1, "K": 1})]
    (section,) = sections(records)
    table = flat_table(section.rows, size_columns(section.rows), ())
    assert dict(table.shared)["E"] == "64"
