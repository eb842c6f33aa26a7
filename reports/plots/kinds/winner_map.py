"""Winner map: which kernel wins over two quantities of the problem, and by how much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...numbers import exact, number, plain
from ..canvas import LETTER, PANELS, RIGHT, WIDTH, group_id, panel, svg
from ..drawing import Drawing
from ..labels import fitted, told_apart
from ..marks import KernelMarks, draw_line
from ..palette import PANEL, Style
from ..quantity import column, flags, words
from ..scale import axis_title, ticks

SIZES: Final = ("T", "E", "K", "F", "D")
SECOND: Final = (*SIZES, "capacity_factor", "load", "router", "ranks", "block", "model", "series")
"""Quantities that stand beside the one on the axis, in the order of preference."""
FILLED: Final = 0.75  # of the cells of a map are the fewest that make it one
MOST: Final = 40  # lines of a map, and 6 columns; a larger one is a table
COLUMNS: Final = 6
CELL: Final = 0.42  # inches of the height of a cell
NAME: Final = 28  # letters of a place
SHORTEST: Final = 11  # letters beside a mark that name most kernels, and hold a tied margin in three digits
ROUND: Final = 10  # percent from which on a margin has no digit behind the point in a narrow cell
TINT: Final = 0.22  # of the colour of a winner is behind the text, which stays readable on it in both themes


@dataclass(frozen=True)
class Cell:
    """The winner of one cell, its margin over the second in percent, None where it ran alone, and whether they tie."""

    across: str
    down: str
    kernel: str
    record: int
    margin: float | None
    tied: bool

    @property
    def words(self) -> str:
        if self.margin is None:
            return "alone"
        return f"tied, {number(self.margin)} %" if self.tied else f"by {number(self.margin)} %"

    def lines(self, letters: int) -> tuple[str, str]:
        """Return what stands beside the mark of the winner in two lines of so many letters.

        Where they do not name a kernel, it is the margin in two digits, and whether it is a tie.
        """
        if letters >= SHORTEST:
            return plain(self.kernel, letters), self.words
        if self.margin is None:
            return "alone", ""
        digits = 1 if self.margin < ROUND else 0
        return f"{self.margin:.{digits}f} %", "tied" if self.tied else ""


def winner_map(frame: pd.DataFrame, second: str, styles: Mapping[str, Style]) -> Figure | None:
    """Return the map of the panel's places over their axis and the column ``second``, None for fewer than 2 × 2.

    ``frame`` are the trials of one dtype and mode.
    """
    cells = winners(frame, second)
    along, beside = _values(cells, frame, second)
    if not _is_map(cells, along, beside):
        return None
    names = [words(frame, "axis")[0], "line" if second == "series" else second.replace("_", " ")]
    turned = len(along) > len(beside) or len(along) > COLUMNS
    columns, lines = (beside, along) if turned else (along, beside)
    if turned:
        names.reverse()
    shared, heads, labels = _heads(columns, lines)
    left = 0.25 + LETTER * max(map(len, labels))
    title = " · ".join(filter(None, [*(words(frame, name)[0] for name in ("dtype", "mode")), shared]))
    figure, axes = panel(title, label=plain(names[1], NAME), height=CELL * len(lines), left=left)
    axes.set(xlim=(0, len(columns)), ylim=(len(lines), 0))
    letters = int((WIDTH - left - RIGHT) / len(columns) / LETTER)
    for cell in cells:
        place = (cell.down, cell.across) if turned else (cell.across, cell.down)
        _draw_cell(axes, cell, columns.index(place[0]), lines.index(place[1]), letters, styles)
    for edge in range(1, len(columns)):
        draw_line(axes, [edge] * 2, [0, len(lines)], color=PANEL, linewidth=2)
    for edge in range(1, len(lines)):
        draw_line(axes, [0, len(columns)], [edge] * 2, color=PANEL, linewidth=2)
    ticks(axes, "x", [order + 0.5 for order in range(len(columns))], fitted(heads, letters - 1))
    ticks(axes, "y", [order + 0.5 for order in range(len(lines))], labels)
    axis_title(axes, names[0])
    return figure


def _draw_cell(axes: Axes, cell: Cell, x: int, y: int, letters: int, styles: Mapping[str, Style]) -> None:
    """Draw a tint, the mark of the winner, and two lines beside it in a cell that is so many letters wide."""
    look = KernelMarks(styles, cell.kernel)
    gid = group_id(look.index)  # the legend hides all of a cell
    axes.add_artist(Rectangle((x, y), 1, 1, facecolor=look.style.colour, alpha=TINT, edgecolor="none", gid=gid))
    look.marks(axes, [x + 0.9 / letters], [y + 0.32], [cell.record])
    first, second = cell.lines(letters - 3)
    axes.text(x + 2.0 / letters, y + 0.32, first, va="center", fontsize=8.5, gid=gid)
    axes.text(x + 2.0 / letters, y + 0.74, second, va="center", fontsize=8.0, gid=gid)


def _heads(columns: Sequence[str], lines: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Return what the names of all columns or of all lines share, and the names without that, short enough to fit."""
    both = [told_apart(names) for names in (columns, lines)]
    shared = ", ".join(filter(None, (common for common, _ in both)))
    return shared, both[0][1], fitted(both[1][1], NAME)


def winners(frame: pd.DataFrame, second: str) -> list[Cell]:
    """Return the winner of every place at which a competitor passed, over the axis and the column ``second``."""
    rows = frame[flags(frame, "competes") & flags(frame, "best")]
    order = np.lexsort((column(rows, "median_ms"), column(rows, "place")))
    rows = rows.iloc[order]
    starts = np.flatnonzero(np.diff(column(rows, "place"), prepend=np.nan) != 0)
    times, leads, kernels = column(rows, "median_ms"), flags(rows, "leads"), words(rows, "kernel")
    x, y, records = rows["x"].tolist(), rows[second].tolist(), rows["record"].tolist()
    return [
        Cell(
            across=_text(x[start]),
            down=_text(y[start]),
            kernel=kernels[start],
            record=records[start],
            margin=float(100 * (times[start + 1] / times[start] - 1)) if stop - start > 1 else None,
            tied=int(leads[start:stop].sum()) > 1,
        )
        for start, stop in pairwise([*starts.tolist(), len(rows)])
    ]


def _text(value: object) -> str:
    """Return a value of a problem as a map names it."""
    number_like = isinstance(value, int | float) and not isinstance(value, bool)
    return exact(value) if number_like else plain("none" if value is None else str(value))  # type: ignore[arg-type]


def _values(cells: Sequence[Cell], frame: pd.DataFrame, second: str) -> tuple[list[str], list[str]]:
    """Return the names of the columns and of the lines of a map, numbers in their order."""
    found = []
    for name, used in (("x", {cell.across for cell in cells}), (second, {cell.down for cell in cells})):
        values = frame[name].drop_duplicates().tolist()
        values.sort(key=lambda value: (isinstance(value, str), value if isinstance(value, int | float) else 0))
        found.append([text for text in dict.fromkeys(map(_text, values)) if text in used])
    return found[0], found[1]


def _is_map(cells: Sequence[Cell], across: Sequence[str], down: Sequence[str]) -> bool:
    """Return whether each cell is one place, and nearly all of at least 2 × 2 are."""
    size = len(across) * len(down)
    apart = len({(cell.across, cell.down) for cell in cells}) == len(cells)
    fits = min(len(across), len(down)) <= COLUMNS and max(len(across), len(down)) <= MOST
    contested = sum(cell.margin is not None for cell in cells)
    return apart and fits and min(len(across), len(down)) >= 2 and contested >= FILLED * size


def map_drawings(frame: pd.DataFrame, styles: Mapping[str, Style]) -> list[Drawing]:
    """Return the map of a section, none where its records vary no two quantities or nobody competes."""
    if frame["stage"].notna().any():
        return []  # the trials of a search are not places that compete
    competing = frame[flags(frame, "competes")]
    varied = [name for name in SECOND if name in frame and competing[name].astype(str).nunique() > 1]
    if competing["x"].astype(str).nunique() < 2 or not varied:
        return []
    panels = [one for _, one in competing.groupby(["dtype", "mode"], sort=False)][:PANELS]
    for second in varied:
        if _of_a_model(competing, second):
            continue
        found = [(one, figure) for one in panels if (figure := winner_map(one, second, styles))]
        if found:
            return [_drawing([(one, winners(one, second), figure) for one, figure in found])]
    return []


def _of_a_model(frame: pd.DataFrame, second: str) -> bool:
    """Return whether a size changes only together with others: then it is the model that changes."""
    if second not in SIZES:
        return False
    rows = frame.assign(at=frame["x"].astype(str))
    others = [name for name in SIZES if name != second and rows[name].astype(str).nunique() > 1]
    fixed = [name for name in others if (rows.groupby(["at", second])[name].nunique() < 2).all()]
    varied = [name for name in fixed if (rows.groupby("at")[name].nunique() > 1).any()]
    return bool(varied)


def _drawing(found: Sequence[tuple[pd.DataFrame, list[Cell], Figure]]) -> Drawing:
    return Drawing(
        name="winner-map",
        title="The fastest and its margin",
        alt=" ".join(_words(one, cells) for one, cells, _ in found),
        caption="The fastest kernel of each cell by its mark, with how much longer the second takes. Tied kernels "
        "cannot be told apart by their samples.",
        panels=[svg(figure) for _, _, figure in found],
        kernels=sorted({cell.kernel for _, cells, _ in found for cell in cells}),
    )


def _words(frame: pd.DataFrame, cells: Sequence[Cell]) -> str:
    counts = Counter(cell.kernel for cell in cells)
    won = ", ".join(f"{kernel} {count}" for kernel, count in counts.most_common())
    margins = [cell.margin for cell in cells if cell.margin is not None]
    tied = sum(cell.tied for cell in cells)
    where = " · ".join(filter(None, (words(frame, name)[0] for name in ("dtype", "mode"))))
    said = f"{where}: of {len(cells)} cells, {won}; margins of {number(min(margins))} to {number(max(margins))} %"
    return f"{said}, {tied} tied." if tied else f"{said}."
