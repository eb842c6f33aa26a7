"""Marks: the points, lines and intervals of one kernel in a plot, by which a page finds their records.

All is added as an artist: `Axes.plot` and its like also work out the limits of the axes, which every panel sets, and
that takes longer than the drawing. The limits come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from .canvas import group_id
from .palette import INK, MUTED, PANEL, REFERENCE_LINE, Style
from .scale import Floats

Points = Sequence[float] | Floats
HIDDEN: Final = 3.5  # points of an interval that a mark covers, which is not drawn


class KernelMarks:
    """How one kernel looks, by default as its style, and its index in the styles of the page."""

    def __init__(self, styles: Mapping[str, Style], kernel: str, look: Style | None = None) -> None:
        self.style = look or styles[kernel]
        self.index = list(styles).index(kernel)

    def marks(
        self,
        axes: Axes,
        x: Points,
        y: Points,
        records: Sequence[int],
        *,
        size: float = 5.5,
        hollow: bool = False,
    ) -> None:
        """Draw a mark for each record, or for none if a mark is of several. Marks without a place are left out."""
        across, along = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        shown = np.isfinite(across) & np.isfinite(along)
        if not shown.any():
            return
        known = tuple(np.asarray(records)[shown].tolist()) if len(records) else ()
        hollow = hollow or self.style.hollow
        draw_line(
            axes,
            across[shown],
            along[shown],
            linestyle="none",
            color=self.style.colour,
            marker=self.style.marker,
            markersize=size,
            markerfacecolor=PANEL if hollow else self.style.colour,
            markeredgewidth=1.2 if self.style.line == REFERENCE_LINE or hollow else 0,
            zorder=2.2,
            gid=group_id(self.index, known),
        )

    def intervals(self, axes: Axes, at: Points, low: Points, high: Points, *, across: bool = False) -> None:
        """Draw a line from the low to the high end of each mark, to the right if ``across``, else up.

        What would lie under its mark is left out.
        """
        ends = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
        seen = _length(axes, *ends, across=across) > HIDDEN
        if not seen.any():
            return
        place = np.asarray(at, dtype=float)[seen]
        nothing = np.full(len(place), np.nan)
        along = np.column_stack([ends[0][seen], ends[1][seen], nothing]).ravel()
        places = np.repeat(place, 3)
        x, y = (along, places) if across else (places, along)
        self._line(axes, x, y, linestyle="-", linewidth=1.2, solid_capstyle="butt")

    def line(self, axes: Axes, x: Points, y: Points, *, linestyle: str = "", linewidth: float = 1.5) -> None:
        """Draw a line through the points that have a place."""
        if np.isfinite(np.asarray(y, dtype=float)).sum() > 1:
            self._line(axes, x, y, linestyle=linestyle or self.style.line, linewidth=linewidth)

    def step(self, axes: Axes, x: Points, y: Points) -> None:
        """Draw a line that stays as high as a point until the next one."""
        self._line(axes, x, y, linestyle=self.style.line, linewidth=1.5, drawstyle="steps-post")

    def band(self, axes: Axes, x: Points, low: Points, high: Points) -> None:
        """Draw a tint between the low and the high ends."""
        draw_area(axes, x, low, high, color=self.style.colour, alpha=0.18, gid=group_id(self.index))

    def _line(self, axes: Axes, x: Points, y: Points, **looks: Any) -> None:  # properties of a line
        draw_line(axes, x, y, color=self.style.colour, gid=group_id(self.index), **looks)


def draw_line(axes: Axes, x: Points, y: Points, **looks: Any) -> None:  # properties of a line
    """Draw a line or marks."""
    axes.add_artist(Line2D(np.asarray(x, dtype=float), np.asarray(y, dtype=float), **looks))


def draw_bound(axes: Axes, x: Points, y: Points) -> None:
    """Draw a lower bound of the time: the same dotted line in every kind of plot."""
    draw_line(axes, x, y, color=INK, linestyle=":", linewidth=1.6)


def draw_flag(axes: Axes, x: float, text: str, **looks: Any) -> None:  # properties of a line
    """Draw a line from the bottom to the top of the axes, with a text beside its upper end."""
    draw_line(axes, [x, x], axes.get_ylim(), **{"color": MUTED, "linewidth": 0.8, "zorder": 0.9, **looks})
    axes.annotate(
        text,
        (x, 1),
        (2, 4),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        va="top",
        color=MUTED,
        fontsize=8.5,
    )


def draw_area(axes: Axes, x: Points, low: Points | float, high: Points | float, **looks: Any) -> None:
    """Draw the area between two lines."""
    across = np.asarray(x, dtype=float)
    bottom, top = (np.broadcast_to(np.asarray(end, dtype=float), across.shape) for end in (low, high))
    corners = np.column_stack([np.concatenate([across, across[::-1]]), np.concatenate([bottom, top[::-1]])])
    axes.add_artist(Polygon(corners, closed=True, linewidth=0, **looks))


def _length(axes: Axes, low: Floats, high: Floats, *, across: bool) -> Floats:
    """Return how long intervals are in points, 0 where they have no ends."""
    limits = np.array(axes.get_xlim() if across else axes.get_ylim())
    if (axes.get_xscale() if across else axes.get_yscale()) == "log":
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high, limits = np.log(low), np.log(high), np.log(limits)
    box = axes.get_position()
    whole = axes.figure.get_size_inches()[0 if across else 1] * (box.width if across else box.height)  # type: ignore[union-attr]
    found: Floats = np.nan_to_num(72 * whole * (high - low) / abs(limits[1] - limits[0]))
    return found
