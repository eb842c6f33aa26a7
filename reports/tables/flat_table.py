"""Flat tables of a page: one row a trial or a place, every fact in a column of its own, so that they can be sorted.

A column that has one value in all rows says nothing about any of them: it becomes a sentence of the caption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress

from ..columns import Column
from ..numbers import MISSING, exact
from ..row import Row

FEW = 3  # rows from which on a value that all share is said once


@dataclass(frozen=True)
class FlatRow:
    """The texts of a row's places and of its figures, in the order of the table's columns."""

    row: Row
    places: list[str]
    figures: list[str]


@dataclass(frozen=True)
class FlatTable:
    """Columns of places, columns of figures, the rows, and as ``shared`` each heading with the text of all rows."""

    places: list[Column]
    figures: list[Column]
    shared: list[tuple[str, str]]
    rows: list[FlatRow]

    @property
    def headings(self) -> list[str]:
        """Return the headings of the figures that the table or its caption shows."""
        return [*(column.heading for column in self.figures), *(heading for heading, _ in self.shared)]


def flat_table(
    rows: Sequence[Row], places: Iterable[Column], figures: Iterable[Column], kept: Iterable[str] = ()
) -> FlatTable:
    """Return a table of rows without the columns that are empty or neutral in all of them.

    Of figures only the rows that passed count. A column whose heading is among ``kept`` is never a part of the caption.
    """
    kept = set(kept)
    shared: list[tuple[str, str]] = []
    references = [row.reference for row in rows]
    measured = [bool(row.passed or row.record.invariance) for row in rows]

    def of_places(texts: Sequence[str]) -> set[str]:
        return {text for text, reference in zip(texts, references, strict=True) if not (reference and text == MISSING)}

    def of_figures(texts: Sequence[str]) -> set[str]:
        return set(compress(texts, measured))

    def left(columns: Iterable[Column], said_by: Callable[[Sequence[str]], set[str]]) -> list[tuple[Column, list[str]]]:
        """Return the columns that say something about their rows, with the texts."""
        found = []
        for column in columns:
            texts = [column.cell(row) for row in rows]
            said = said_by(texts)
            if said <= {"", MISSING, column.neutral}:
                continue
            if len(said) == 1 and len(rows) >= FEW and column.heading not in kept:
                shared.append((column.heading, said.pop()))
            else:
                found.append((column, texts))
        return found

    places_left, figures_left = left(places, of_places), left(figures, of_figures)
    lines = [
        FlatRow(row, [texts[at] for _, texts in places_left], [texts[at] for _, texts in figures_left])
        for at, row in enumerate(rows)
    ]
    return FlatTable([column for column, _ in places_left], [column for column, _ in figures_left], shared, lines)


def size_columns(rows: Sequence[Row]) -> list[Column]:
    """Return a column for each size of a problem that is not itself what the axis shows.

    A reference solves another problem, whose sizes are not those that were asked for.
    """
    several = len({row.place.x for row in rows}) > 1
    found = []
    for letter in "TDFEK":
        size = partial(_size, letter)
        on_axis = several and all(size(row) in (MISSING, exact(row.place.x)) for row in rows)
        if not on_axis:
            found.append(Column(letter, size))
    return found


def _size(letter: str, row: Row) -> str:
    size = row.record.problem.get(letter)
    return exact(size) if isinstance(size, int) and not row.reference else MISSING
