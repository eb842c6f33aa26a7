"""Old against new: the samples of both sides of a comparison as two distributions for each point."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...numbers import counted, plain
from ..canvas import BOTTOM, LETTER, PANELS, legend, legend_height, panel, svg
from ..drawing import Drawing
from ..marks import draw_area, draw_line
from ..palette import COLOURS, INK, MUTED, PANEL, SHADE
from ..quantity import column, words
from ..scale import Floats, axis_title, ticks

ROWS: Final = 8  # points of a panel
BAND: Final = 0.46  # inches of a point
DOTS: Final = 40  # of a side are the most that are drawn, evenly spread over its sorted samples
NAME: Final = 26  # letters of a point beside its band
TAIL: Final = 99  # percent of the samples that a panel shows; single outliers would squeeze the rest
SIDES: Final = ("old", "new")
LOOKS: Final = {"old": (COLOURS[0], "o", -0.2), "new": (COLOURS[1], "s", 0.2)}
"""Colour, marker and place in a band of each side; marks of the old one are hollow."""


def distributions(frame: pd.DataFrame) -> Figure | None:
    """Return the figure of some points of a comparison, None where no point has samples on both sides.

    ``frame`` has one row for each sample: ``point`` and ``kernel`` name what was measured, ``side`` is old or new,
    ``sample_ms`` the sample and ``verdict`` the outcome of the point as a word. Samples are shown relative to the
    median of the old side of their point.
    """
    bands = _bands(frame)
    if not bands:
        return None
    labels = [plain(f"{kernel}, {point}", NAME) for (point, kernel), _ in bands]
    left = 0.25 + LETTER * max(map(len, labels))
    right = 0.12 + LETTER * max(len(verdict) for _, (_, _, verdict) in bands)
    figure, axes = panel(
        "old against new", height=BAND * len(bands), left=left, right=right, bottom=BOTTOM + legend_height(SIDES)
    )
    every = np.concatenate([np.concatenate([old, new]) for _, (old, new, _) in bands])
    span = np.percentile(np.abs(every), TAIL) * 1.1 or 1.0
    axes.set(xlim=(-span, span), ylim=(len(bands) - 0.5, -0.5))
    for level in range(0, len(bands), 2):
        draw_area(axes, (-span, span), level - 0.5, level + 0.5, color=SHADE, zorder=0.4)
    draw_line(axes, [0, 0], axes.get_ylim(), color=MUTED, linewidth=0.8)
    for level, (_, (old, new, verdict)) in enumerate(bands):
        for side, samples in zip(SIDES, (old, new), strict=True):
            _strip(axes, side, level, samples)
        axes.text(1.02, level, verdict, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
    ticks(axes, "y", range(len(bands)), labels)
    steps = _percents(span)
    ticks(axes, "x", steps, [f"{step:+g}" if step else "0" for step in steps], grid=True)
    axis_title(axes, "time over the median of the old side (%)")
    handles: list[Artist] = [_key(side) for side in SIDES]
    legend(figure, handles, SIDES)
    return figure


def _bands(frame: pd.DataFrame) -> list[tuple[tuple[str, str], tuple[Floats, Floats, str]]]:
    """Return the samples of both sides of each point in percent of the old median, with the verdict."""
    found = []
    for (point, kernel), rows in frame.groupby(["point", "kernel"], sort=False):
        old, new = (column(rows[rows["side"] == side], "sample_ms") for side in SIDES)
        if old.size and new.size:
            middle = float(np.median(old))
            both = [100 * (np.sort(samples) / middle - 1) for samples in (old, new)]
            found.append(((str(point), str(kernel)), (both[0], both[1], plain(words(rows, "verdict")[0], NAME))))
    return found


def _strip(axes: Axes, side: str, level: int, samples: Floats) -> None:
    """Draw some of the samples of a side as dots, their quartiles as a line, and their median as a bar."""
    colour, marker, shift = LOOKS[side]
    some = samples[np.linspace(0, len(samples) - 1, min(DOTS, len(samples))).round().astype(int)]
    low, middle, high = np.percentile(samples, [25, 50, 75])
    at = level + shift
    wobble = at + 0.08 * ((np.arange(len(some)) * 0.618) % 1 - 0.5)  # evenly scattered, the same each time
    fill = PANEL if side == "old" else colour
    draw_line(
        axes,
        some,
        wobble.tolist(),
        color=colour,
        marker=marker,
        linestyle="none",
        markersize=3,
        markerfacecolor=fill,
        markeredgewidth=0.7,
    )
    draw_line(axes, [low, high], [at, at], color=INK, linewidth=1.2)
    draw_line(axes, [middle, middle], [at - 0.17, at + 0.17], color=INK, linewidth=2)


def _key(side: str) -> Line2D:
    colour, marker, _ = LOOKS[side]
    fill = PANEL if side == "old" else colour
    return Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=4, markerfacecolor=fill)


def _percents(span: float) -> list[float]:
    """Return round percents on both sides of 0."""
    step = next(one for one in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1e4, 1e6) if 2.5 * one >= span)
    return [step * order for order in range(-2, 3) if abs(step * order) <= span]


def distribution_drawings(frame: pd.DataFrame) -> list[Drawing]:
    """Return the drawing of a comparison, a panel for every few of its points, none without samples on both sides."""
    bands = _bands(frame)
    if not bands:
        return []
    groups = [bands[start : start + ROWS] for start in range(0, len(bands), ROWS)]
    keys = pd.MultiIndex.from_frame(frame[["point", "kernel"]].astype(str))
    figures = [
        figure for group in groups[:PANELS] if (figure := distributions(frame[keys.isin([key for key, _ in group])]))
    ]
    left = len(bands) - ROWS * PANELS
    return [
        Drawing(
            name="distributions",
            title="Old against new",
            alt=" ".join(_words(one) for group in groups[:PANELS] for one in group),
            caption=f"Samples of both sides, up to {DOTS} of each, over the median of the old one; the line is the "
            "middle half of them, the bar their median."
            + (f" {counted(left, 'more point')} {'is' if left == 1 else 'are'} in the table only." if left > 0 else ""),
            panels=[svg(figure) for figure in figures],
            kernels=[],
        )
    ]


def _words(band: tuple[tuple[str, str], tuple[Floats, Floats, str]]) -> str:
    (point, kernel), (_, new, verdict) = band
    return f"{plain(kernel)} at {plain(point)}: {verdict}, the new median is {np.median(new):+.1f} %."
