"""Tables for a terminal: one for each section, with as many columns as the width holds."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from . import measures
from .answers.answer import answer
from .columns import KERNEL, OUTCOME, Column, place_column, worth
from .numbers import plain
from .row import Row, shaped
from .section import Section
from .tables.stacked_table import folded
from .tables.text_table import GAP, grid

NAMES = (40, 24, 16)  # cells of a name before it is folded: the first with which the table fits
SHORT_NAMES = (*NAMES, 12, 8, 4)  # the same where the names of places have lines of their own
REASON = 300  # characters of a reason that a terminal shows; files show all


def terminal(sections: Sequence[Section]) -> list[RenderableType]:
    """Return what ``rich`` prints for each section: the question, the table, what did not pass, and the answer."""
    return [SectionTable(section) for section in sections]


@dataclass(frozen=True)
class SectionTable:
    """One section, as wide as its console. The answer comes last, where the reader of a terminal looks."""

    section: Section

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _wrapped(f"{self.section.suite} on {self.section.machine.label}", "bold", options)
        yield _wrapped(self.section.question, "italic", options)
        yield from self._tables(options)
        yield from self._balance(options)
        for reason in _reasons(self.section.rows):
            yield _wrapped(reason, "yellow", options)
        found = answer(self.section)
        yield _wrapped(found.sentence, "bold", options)
        for sentence in (*found.details, *self.section.notes):
            yield _wrapped(sentence, "dim", options)
        yield Text()

    def _tables(self, options: ConsoleOptions) -> RenderResult:
        """Yield every facet under its title, in columns that all facets share."""
        rows = self.section.rows
        place, columns = place_column(self.section.axis), [KERNEL, *worth([OUTCOME, *measures.columns()], rows)]
        widths = _fitted([place, *columns], rows, NAMES, options.max_width)
        if _total(widths) > options.max_width:
            widths = _fitted(columns, rows, SHORT_NAMES, options.max_width)
        yield _table(widths, [], with_headings=True)
        for order, (facet, lines) in enumerate(self.section.facets.items()):
            if order:
                yield Text()
            yield _wrapped(shaped(facet.title, lines), "cyan", options)
            if place in widths:
                yield _table(widths, lines, place)
            else:
                yield from _by_place(place, widths, lines, options)
        if left_out := [column.heading for column in columns if column not in widths]:
            yield _wrapped(f"too narrow for {', '.join(left_out)}: the page has all columns", "dim", options)

    def _balance(self, options: ConsoleOptions) -> RenderResult:
        """Yield the table of routes, where loads or routers are compared."""
        rows = self.section.balanced
        if not rows:
            return
        place = place_column(self.section.axis)
        widths = _fitted([place, *worth(measures.balance_columns(), rows)], rows, SHORT_NAMES, options.max_width)
        yield Text()
        yield _wrapped("Routes and router at each place, the same for every kernel", "cyan", options)
        for facet, lines in groupby(rows, key=lambda row: row.place.facet):
            if len(self.section.facets) > 1:
                yield _wrapped(facet.title, "", options)
            yield grid(
                [column.heading for column in widths],
                [([column.cell(row) for column in widths], "") for row in lines],
                widths=list(widths.values()),
            )


def _wrapped(text: str, style: str, options: ConsoleOptions) -> Text:
    """Return text that breaks at spaces only; rich alone would break a number at the space between its thousands."""
    return Text(textwrap.fill(text, options.max_width), style=style)


def _by_place(
    place: Column, widths: dict[Column, int], rows: Sequence[Row], options: ConsoleOptions
) -> Iterator[RenderableType]:
    """Yield a table for each place, under its name."""
    for name, group in groupby(rows, key=place.cell):
        yield _wrapped(f"{place.heading} {name}", "", options)
        yield _table(widths, list(group))


def _fitted(columns: list[Column], rows: Sequence[Row], names: Sequence[int], width: int) -> dict[Column, int]:
    """Return the columns that fit, with their widths: those of high drop priority go first, then names are folded.

    ``names`` are the lengths that names may have, the least last.
    """
    needs = {
        column: max(cell_len(text) for text in (*column.heading.split(" "), *map(column.cell, rows)))
        for column in columns
    }
    for longest in names:
        widths = {column: min(need, longest) for column, need in needs.items()}
        optional = sorted((one for one in columns if one.drop_priority), key=lambda column: column.drop_priority)
        while optional and _total(widths) > width:
            del widths[optional.pop()]
        if _total(widths) <= width:
            break
    return widths


def _total(widths: dict[Column, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _table(
    widths: dict[Column, int], rows: Sequence[Row], place: Column | None = None, *, with_headings: bool = False
) -> Table:
    return grid(
        [column.heading for column in widths],
        _lines(widths, rows, place),
        words=[column.heading for column in widths if not column.numeric],
        widths=list(widths.values()),
        with_headings=with_headings,
    )


def _lines(widths: dict[Column, int], rows: Sequence[Row], place: Column | None) -> Iterator[tuple[list[str], str]]:
    """Yield cells and style of every row. A blank line parts two places, and the first row of a place names it."""
    before = None
    for row in rows:
        known = row.place == before
        if before is not None and not known:
            yield [], ""
        cells = ["" if known and column is place else column.cell(row) for column in widths]
        folds = ("\n".join(folded(cell, width)) for cell, width in zip(cells, widths.values(), strict=True))
        yield list(folds), "bold green" if row.leads else "" if row.passed else "dim"
        before = row.place


def _reasons(rows: Sequence[Row]) -> Iterator[str]:
    """Yield why each kernel did not pass: the first reason of each status, and how many more there are."""
    stopped: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if not row.passed:
            stopped.setdefault((row.kernel, row.outcome), []).append(row.reason)
    for (kernel, outcome), reasons in stopped.items():
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        yield f"{kernel}: {outcome}: {plain(reasons[0], REASON)}{more}"
