"""Columns: what the tables of a page, a Markdown file and a terminal show of a row, and the measures behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Final

from .numbers import MISSING, exact, number, optional, plain
from .row import Row, shape


@dataclass(frozen=True)
class Column:
    """One column: its heading with the unit, the text of a row's cell, and when a narrow terminal drops it.

    The column of the highest ``drop_priority`` is dropped first, one of priority 0 never. A column whose every cell is
    empty or ``neutral`` is left out of a table.
    """

    heading: str
    cell: Callable[[Row], str]
    drop_priority: int = 0
    numeric: bool = True
    neutral: str = MISSING


PERCENT: Final = "%"

Value = float | int | str | None


@dataclass(frozen=True)
class Measure:
    """One quantity of a row.

    ``name`` is its column in CSV and Parquet and its key in JSON. ``heading`` titles it in tables, followed by its
    ``unit`` unless it ends in it; a measure without a heading is in files only. ``meaning`` is for the glossary.
    ``value`` computes it, None where it does not exist; a share is a fraction, which tables show as a percentage.
    ``text`` is what a table shows in place of the value; ``drop_priority``, ``numeric`` and ``neutral`` are those of
    `Column`.
    """

    name: str
    heading: str
    unit: str
    meaning: str
    value: Callable[[Row], Value]
    _: KW_ONLY
    text: Callable[[Row], str] | None = None
    drop_priority: int = 0
    numeric: bool = True
    neutral: float | None = None

    @property
    def column(self) -> Column:
        title = self.heading if self.heading.endswith(self.unit) else f"{self.heading} ({self.unit})"
        neutral = MISSING if self.neutral is None else number(self.neutral)
        return Column(title, self.text or self._written, self.drop_priority, self.numeric, neutral)

    def _written(self, row: Row) -> str:
        value = self.value(row)
        if isinstance(value, str):
            return value or MISSING
        return optional(None if value is None else 100 * value if self.unit == PERCENT else value)


KERNEL: Final = Column("kernel", lambda row: row.kernel, numeric=False)
OUTCOME: Final = Column("outcome", lambda row: row.outcome, numeric=False)


def place_column(axis: str) -> Column:
    """Return the column of the place on the axis, under the axis' name."""
    return Column(plain(axis), lambda row: exact(row.place.x))


def place_columns(axis: str) -> list[Column]:
    """Return the columns that say where a row was measured, its facet included."""
    return [
        Column("series", lambda row: row.place.facet.series or MISSING, numeric=False),
        place_column(axis),
        Column("dtype", lambda row: row.place.facet.dtype or MISSING, numeric=False),
        Column("mode", lambda row: row.place.facet.mode or MISSING, numeric=False),
        Column("sizes", lambda row: shape([row]) or MISSING, numeric=False),
        Column("differs in", lambda row: row.place.facet.detail or MISSING, numeric=False),
    ]


def worth(columns: Iterable[Column], rows: Sequence[Row]) -> list[Column]:
    """Return the columns that say something about any of these rows."""
    return [column for column in columns if any(column.cell(row) not in ("", MISSING, column.neutral) for row in rows)]
