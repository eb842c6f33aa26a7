"""Tables for a terminal: one a suite, with as many columns as its width holds."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..results.record import Record
from .answer import answer
from .numbers import plain
from .section import Section, sections
from .table import KERNEL, MEASURES, OUTCOME, Column, Row, place_columns, worth

NAME = 40  # cells of a name before it is folded
REASON = 300  # characters of a reason that a terminal shows; files show all


def terminal(records: Sequence[Record]) -> list[RenderableType]:
    """What ``rich`` prints for these records: per suite its question, the table, what did not pass, the answer."""
    return [SectionTable(section) for section in sections(records)]


@dataclass(frozen=True)
class SectionTable:
    """One section as it fits the console that prints it."""

    section: Section

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        found = answer(self.section)
        columns, shared = _split(self.section)
        header = [self.section.suite, self.section.machine.label, *shared]
        for text, style in (
            (" · ".join(header), "bold"),
            (self.section.question, "italic"),
        ):
            yield _wrapped(text, style, options)
        yield _fitted(self.section.rows, columns, console, options)
        for reason in _reasons(self.section.rows):
            yield _wrapped(reason, "yellow", options)
        yield _wrapped(found.sentence, "bold", options)
        for sentence in (*found.details, *self.section.notes):
            yield _wrapped(sentence, "dim", options)
        yield Text()


def _wrapped(text: str, style: str, options: ConsoleOptions) -> Text:
    """Text that breaks at spaces only; rich alone would break a number at the space between its thousands."""
    return Text(textwrap.fill(text, options.max_width), style=style)


def _split(section: Section) -> tuple[list[Column], list[str]]:
    """The columns, and apart from them what all rows of the section share of their place."""
    rows = section.rows
    columns = worth(place_columns(section.axis), rows)
    shared = [column for column in columns[:1] + columns[2:] if len({column.cell(row) for row in rows}) == 1]
    varying = [column for column in columns if column not in shared]
    return [*varying, KERNEL, *worth([OUTCOME, *MEASURES], rows)], [column.cell(rows[0]) for column in shared]


def _fitted(rows: Sequence[Row], columns: list[Column], console: Console, options: ConsoleOptions) -> Table:
    """The table with the columns that fit: the ones that yield most go first."""
    table = _table(rows, columns)
    while any(column.yields for column in columns) and _width(table, console, options) > options.max_width:
        columns.remove(max(columns, key=lambda column: column.yields))
        table = _table(rows, columns)
    return table


def _width(table: Table, console: Console, options: ConsoleOptions) -> int:
    return Measurement.get(console, options.update(width=10_000), table).maximum


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        needs = [cell_len(text) for text in (*column.heading.split(" "), *map(column.cell, rows))]
        table.add_column(
            Text(column.heading),
            justify="right" if column.numeric else "left",
            vertical="bottom",
            overflow="fold",
            width=min(NAME, max(needs)),
        )
    of_place = columns.index(KERNEL)
    previous: list[str] = []
    for row in rows:
        cells = [column.cell(row) for column in columns]
        place = cells[:of_place]
        if previous and place != previous:
            table.add_row()
        shown = [*([""] * of_place if place == previous else place), *cells[of_place:]]
        style = "bold green" if row.leads else "" if row.passed else "dim"
        table.add_row(*map(Text, shown), style=style)
        previous = place
    return table


def _reasons(rows: Sequence[Row]) -> Iterator[str]:
    """Why each kernel did not pass: the first reason of each status, and how many more there are."""
    stopped: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if not row.passed:
            stopped.setdefault((row.kernel, row.outcome), []).append(row.reason)
    for (kernel, outcome), reasons in stopped.items():
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        yield f"{kernel}: {outcome}: {plain(reasons[0], REASON)}{more}"
