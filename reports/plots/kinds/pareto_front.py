"""Pareto front: which kernels no other beats in both time and memory, or in both time and energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...numbers import exact, number, plain
from ..canvas import panel, svg
from ..drawing import Drawing
from ..marks import KernelMarks, draw_bound, draw_line
from ..palette import MUTED, Style
from ..quantity import column, flags, words
from ..scale import Floats, axis_title, spread_out, value_axis

PLACES: Final = 4  # of a section: its first, its last, and some between them
FEWEST: Final = 3  # kernels of which a front says more than a table
NAME: Final = 24  # letters of a name beside its mark
COSTS: Final = {"peak_mib": ("memory", "peak memory (MiB)"), "energy_j": ("energy", "energy of a call (J)")}
"""What is weighed against time: its name, and the title of its axis."""


def pareto_front(frame: pd.DataFrame, cost: str, styles: Mapping[str, Style]) -> Figure | None:
    """Return the figure of one place, None where fewer than three kernels have both, or all cost the same.

    ``frame`` are the trials at one place, ``cost`` the column that is weighed against the time.
    """
    rows = _rows(frame, cost)
    if len(rows) < FEWEST or len(set(column(rows, cost).tolist())) < 2:
        return None
    time, costs = column(rows, "median_ms"), column(rows, cost)
    place = exact(rows["x"].iloc[0])
    title = f"{words(rows, 'facet')[0]} · {words(rows, 'axis')[0]} = {place}"
    figure, axes = panel(title, label=COSTS[cost][1])
    value_axis(axes, "y", np.array([costs.min() * 0.9, costs.max() * 1.1]))
    bound = column(rows, "bound_ms")
    bound = bound[np.isfinite(bound)]
    across = np.array([time.min() * 0.9, time.max() * 1.1, *bound])
    value_axis(axes, "x", across)
    if bound.size:
        draw_bound(axes, [bound.min()] * 2, axes.get_ylim())
    front = on_front(time, costs)
    order = np.flatnonzero(front)[np.argsort(time[front])]
    looks = {"color": MUTED, "linewidth": 1, "linestyle": (0, (4, 2))}
    draw_line(axes, time[order], costs[order], drawstyle="steps-post", **looks)
    kernels, low, high = words(rows, "kernel"), column(rows, "low_ms"), column(rows, "high_ms")
    for index, (kernel, record) in enumerate(zip(kernels, rows["record"].tolist(), strict=True)):
        marks = KernelMarks(styles, kernel)
        marks.intervals(axes, [costs[index]], [low[index]], [high[index]], across=True)
        marks.marks(axes, [time[index]], [costs[index]], [int(record)], size=7 if front[index] else 5)
    middle = (axes.bbox.x0 + axes.bbox.x1) / 2
    for number_on, index in enumerate(order):
        up = number_on % 2 == 0  # so that the names of neighbours do not meet
        right = axes.transData.transform((time[index], costs[index]))[0] > middle
        axes.annotate(
            plain(kernels[index], NAME),
            (time[index], costs[index]),
            (-6 if right else 6, 4 if up else -4),
            textcoords="offset points",
            ha="right" if right else "left",
            va="bottom" if up else "top",
            fontsize=8.5,
        )
    axis_title(axes, "median time (ms)")
    return figure


def on_front(time: Floats, cost: Floats) -> NDArray[np.bool_]:
    """Return which points no other beats: none is as good in both and better in one."""
    good = (time[:, None] <= time) & (cost[:, None] <= cost)
    better = (time[:, None] < time) | (cost[:, None] < cost)
    found: NDArray[np.bool_] = np.logical_not(np.any(good & better, axis=0))
    return found


def _rows(frame: pd.DataFrame, cost: str) -> pd.DataFrame:
    both = np.isfinite(column(frame, cost)) & np.isfinite(column(frame, "median_ms"))
    return frame[both & flags(frame, "competes") & flags(frame, "best")]


def pareto_drawings(frame: pd.DataFrame, styles: Mapping[str, Style]) -> list[Drawing]:
    """Return the fronts of a section for each cost that was measured, at some of its places."""
    return [found for cost in COSTS if (found := _drawing(frame, cost, styles))]


def _drawing(frame: pd.DataFrame, cost: str, styles: Mapping[str, Style]) -> Drawing | None:
    places = [one for _, one in _rows(frame, cost).groupby("place", sort=True) if len(one) >= FEWEST]
    found = [(one, figure) for one in spread_out(places, PLACES) if (figure := pareto_front(one, cost, styles))]
    if not found:
        return None
    name = COSTS[cost][0]
    return Drawing(
        name=f"time-{name}",
        title=f"Time against {name}",
        alt=" ".join(_words(one, cost) for one, _ in found),
        caption=f"Kernels on the dashed line are named: no other is better in time and no worse in {name}, or the "
        f"other way round. Down and to the left is better. Shown at {len(found)} of {len(places)} places.",
        panels=[svg(figure) for _, figure in found],
        kernels=sorted({kernel for one, _ in found for kernel in words(one, "kernel")}),
        bound=any(np.isfinite(column(one, "bound_ms")).any() for one, _ in found),
    )


def _words(rows: pd.DataFrame, cost: str) -> str:
    kernels = words(rows, "kernel")
    time, costs = column(rows, "median_ms"), column(rows, cost)
    front = np.flatnonzero(on_front(time, costs))
    unit = "MiB" if cost == "peak_mib" else "J"
    named = ", ".join(
        f"{kernels[index]} ({number(time[index])} ms, {number(costs[index])} {unit})"
        for index in front[np.argsort(time[front])]
    )
    return f"{words(rows, 'facet')[0]}, {words(rows, 'axis')[0]} = {exact(rows['x'].iloc[0])}: on the front {named}."
