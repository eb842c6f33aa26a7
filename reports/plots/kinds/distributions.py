"""Old against new: the samples of both sides of a comparison as two distributions for each point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...numbers import plain
from ..canvas import BOTTOM, LETTER, PANELS, legend, legend_height, panel, svg
from ..drawing import Drawing, left_out, scale_words
from ..labels import fitted, told_apart
from ..marks import draw_area, draw_line
from ..palette import COLOURS, INK, MUTED, PANEL, SHADE
from ..quantity import column, words
from ..scale import Floats, axis_title, shared, ticks

ROWS: Final = 8  # points of a panel
BAND: Final = 0.46  # inches of a point
DOTS: Final = 40  # of a side are the most that are drawn, evenly spread over its sorted samples
NAME: Final = 26  # letters of a point beside its band
TAIL: Final = 99  # percent of the samples that a panel shows; single outliers would squeeze the rest
SIDES: Final = ("old", "new")
LOOKS: Final = {"old": (COLOURS[0], "o", -0.2), "new": (COLOURS[1], "s", 0.2)}
"""Colour, marker and place in a band of each side; marks of the old one are hollow."""


@dataclass(frozen=True)
class Band:
    """Both sides of one point: their sorted samples in percent of the old median, and the outcome as a word."""

    kernel: str
    point: str
    old: Floats
    new: Floats
    verdict: str

    @property
    def words(self) -> str:
        return f"{self.kernel} at {self.point}: {self.verdict}, the new median is {np.median(self.new):+.1f} %."


def bands(frame: pd.DataFrame) -> list[Band]:
    """Return the points that have samples on both sides.

    ``frame`` has one row for each sample: ``point`` and ``kernel`` name what was measured, ``side`` is old or new,
    ``sample_ms`` the sample and ``verdict`` the outcome of the point as a word.
    """
    found = []
    for (point, kernel), rows in frame.groupby(["point", "kernel"], sort=False):
        old, new = (np.sort(column(rows[rows["side"] == side], "sample_ms")) for side in SIDES)
        if old.size and new.size:
            middle = float(np.median(old))
            old, new = (100 * (samples / middle - 1) for samples in (old, new))
            found.append(Band(plain(str(kernel)), plain(str(point)), old, new, plain(words(rows, "verdict")[0], NAME)))
    return found


def distributions(found: Sequence[Band], *, span: float | None = None) -> Figure:
    """Return the figure of some points, relative to the median of the old side of each.

    ``span`` are the percent that the axis shows on both sides of it if other panels share it.
    """
    common, points = told_apart([one.point for one in found])
    labels = list(zip([plain(one.kernel, NAME) for one in found], fitted(points, NAME), strict=True))
    left = 0.25 + LETTER * max(len(line) for lines in labels for line in lines)
    right = 0.12 + LETTER * max(len(one.verdict) for one in found)
    title = " · ".join(filter(None, ("old against new", common)))
    bottom = BOTTOM + legend_height(SIDES)
    figure, axes = panel(title, height=BAND * len(found), left=left, right=right, bottom=bottom)
    span = span or reach(found)
    axes.set(xlim=(-span, span), ylim=(len(found) - 0.5, -0.5))
    for level in range(0, len(found), 2):
        draw_area(axes, (-span, span), level - 0.5, level + 0.5, color=SHADE, zorder=0.4)
    draw_line(axes, [0, 0], axes.get_ylim(), color=MUTED, linewidth=0.8)
    for level, one in enumerate(found):
        for side, samples in zip(SIDES, (one.old, one.new), strict=True):
            _strip(axes, side, level, samples)
        axes.text(1.02, level, one.verdict, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
    for line, shift in ((0, -0.17), (1, 0.17)):
        ticks(axes, "y", [level + shift for level in range(len(found))], [lines[line] for lines in labels], size=8.5)
    steps = _percents(span)
    ticks(axes, "x", steps, [f"{step:+g}" if step else "0" for step in steps], grid=True)
    axis_title(axes, "time over the median of the old side (%)")
    handles: list[Artist] = [_key(side) for side in SIDES]
    legend(figure, handles, SIDES)
    return figure


def reach(found: Sequence[Band]) -> float:
    """Return the percent on both sides of the old median that show the samples of some points, but for their tails."""
    every = np.concatenate([samples for one in found for samples in (one.old, one.new)])
    return float(np.percentile(np.abs(every), TAIL) * 1.1) or 1.0


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
    """Return round percents on both sides of 0: one, two or five in the place of a digit."""
    power = 10.0 ** math.floor(math.log10(span / 2.5))
    step = next(factor * power for factor in (1, 2, 5, 10) if 2.5 * factor * power >= span)
    return [step * order for order in range(-2, 3) if abs(step * order) <= span]


def distribution_drawings(frame: pd.DataFrame) -> list[Drawing]:
    """Return the drawing of a comparison, a panel for every few of its points, none without samples on both sides.

    ``frame`` is that of `bands`.
    """
    found = bands(frame)
    if not found:
        return []
    groups = [found[start : start + ROWS] for start in range(0, len(found), ROWS)][:PANELS]
    spans = [reach(group) for group in groups]
    alike = shared([np.array([0.0, span]) for span in spans]) is not None
    said = (
        f"Samples of both sides, up to {DOTS} of each, over the median of the old one; the line is the middle half of "
        f"them, the bar their median. At least {TAIL} % of the samples of a panel are within it.",
        scale_words(len(groups), alike=alike),
        left_out(len(found) - ROWS * PANELS, "point"),
    )
    return [
        Drawing(
            name="distributions",
            title="Old against new",
            alt=" ".join(one.words for group in groups for one in group),
            caption=" ".join(filter(None, said)),
            panels=[
                svg(distributions(group, span=max(spans) if alike else span))
                for group, span in zip(groups, spans, strict=True)
            ],
            kernels=[],
        )
    ]
