"""Parts of plots that a page needs beside its drawings: the samples of its legend, and SVGs to be put into it."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from .drawings import MISSING
from .palette import INK, PANEL, Style

if not MISSING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from .canvas import settings, svg

BOUND: Final = "lower bound"


@lru_cache(maxsize=256)  # a page of many sections has few styles
def swatch(style: Style | None) -> str:
    """Return the legend's sample of a style as an SVG; None is the style of the lower bound."""
    with settings():
        figure = Figure(figsize=(0.34, 0.16))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        key = legend_key(style)
        key.set_data([0.06, 0.5, 0.94], [0.5] * 3)
        key.set_markevery([1])
        axes.add_line(key)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        figure.set_facecolor("none")
        return svg(figure)


def legend_key(style: Style | None) -> Line2D:
    """Return the line of a legend that shows a style; None is the style of the lower bound."""
    if style is None:
        return Line2D([], [], color=INK, linestyle=":", linewidth=1.6)
    return Line2D(
        [],
        [],
        color=style.colour,
        marker=style.marker,
        markerfacecolor=PANEL if style.hollow else style.colour,
        linestyle=style.line,
    )
