"""Marks: the points, lines and intervals of one kernel in a plot, by which a page finds their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from .canvas import group_id
from .palette import PANEL, REFERENCE_LINE, Style
from .scale import Floats

Points = Sequence[float] | Floats


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
        zorder: float = 2.2,
    ) -> None:
        """Draw a mark for each record, or for none if a mark is of several. Marks without a place are left out."""
        across, along = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        shown = np.isfinite(across) & np.isfinite(along)
        if shown.any():
            line = self._key(size, across[shown], along[shown], zorder)
            known = tuple(np.asarray(records)[shown].tolist()) if len(records) else ()
            line.set_gid(group_id(self.index, known))
            axes.add_line(line)

    def intervals(self, axes: Axes, at: Points, low: Points, high: Points, *, across: bool = False) -> None:
        """Draw a line from the low to the high end of each mark, to the right if ``across``, else up."""
        nothing = np.full(len(at), np.nan)
        along = np.column_stack([low, high, nothing]).ravel()
        place = np.column_stack([at, at, nothing]).ravel()
        if np.isfinite(along).any():
            x, y = (along, place) if across else (place, along)
            self._add(axes, x, y, linestyle="-", linewidth=1.2, solid_capstyle="butt")

    def line(self, axes: Axes, x: Points, y: Points, *, linestyle: str = "", linewidth: float = 1.5) -> None:
        """Draw a line through the points that have a place."""
        if np.isfinite(np.asarray(y, dtype=float)).sum() > 1:
            self._add(axes, x, y, linestyle=linestyle or self.style.line, linewidth=linewidth)

    def step(self, axes: Axes, x: Points, y: Points) -> None:
        """Draw a line that stays as high as a point until the next one."""
        self._add(axes, x, y, linestyle=self.style.line, linewidth=1.5, drawstyle="steps-post")

    def _add(self, axes: Axes, x: Points, y: Points, **looks: object) -> None:
        line = Line2D(np.asarray(x), np.asarray(y), color=self.style.colour, gid=group_id(self.index), **looks)  # type: ignore[arg-type]
        axes.add_line(line)

    def _key(self, size: float, x: Floats, y: Floats, zorder: float) -> Line2D:
        hollow = self.style.hollow
        return Line2D(
            x,
            y,
            linestyle="none",
            color=self.style.colour,
            marker=self.style.marker,
            markersize=size,
            markerfacecolor=PANEL if hollow else self.style.colour,
            markeredgewidth=1.2 if self.style.line == REFERENCE_LINE or hollow else 0,
            zorder=zorder,
        )
