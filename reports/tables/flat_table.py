"""Flat tables of a page: one row a trial or a place, every fact in a column of its own, so that they can be sorted.

A column that has one value in all rows says nothing about any of them: it becomes a sentence of the caption.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

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


def flat_table(
    rows: Sequence[Row], places: Iterable[Column], figures: Iterable[Column], kept: Iterable[str] = ()
) -> FlatTable:
    """Return a table of rows without the columns that are empty or neutral in all of them.

    Of figures only the rows that passed count. A column whose heading is among ``kept`` is never a part of the caption.
    """
    kept = set(kept)
    shared: list[tuple[str, str]] = []
    places_left = _left(places, rows, shared, kept, of_all=True)
    figures_left = _left(figures, rows, shared, kept, of_all=False)
    lines = [
        FlatRow(row, [texts[at] for _, texts in places_left], [texts[at] for _, texts in figures_left])
        for at, row in enumerate(rows)
    ]
    return FlatTable([column for column, _ in places_left], [column for column, _ in figures_left], shared, lines)


def _left(
    columns: Iterable[Column], rows: Sequence[Row], shared: list[tuple[str, str]], kept: set[str], *, of_all: bool
) -> list[tuple[Column, list[str]]]:
    """Return the columns that say something about their rows, with the texts; see `_telling`."""
    found = ((column, _telling(column, rows, shared, kept, of_all=of_all)) for column in columns)
    return [(column, texts) for column, texts in found if texts]


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


def _telling(
    column: Column, rows: Sequence[Row], shared: list[tuple[str, str]], kept: set[str], *, of_all: bool
) -> list[str]:
    """Return the texts of a column, none where it is left out; what all rows share is added to ``shared``."""
    texts = [column.cell(row) for row in rows]
    told = [
        text
        for text, row in zip(texts, rows, strict=True)
        if (not (row.reference and text == MISSING) if of_all else row.passed or row.record.invariance)
    ]
    said = set(told)
    if said <= {"", MISSING, column.neutral}:
        return []
    if len(said) == 1 and len(rows) >= FEW and column.heading not in kept:
        shared.append((column.heading, said.pop()))
        return []
    return texts
