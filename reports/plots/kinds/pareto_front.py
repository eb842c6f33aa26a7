"""Pareto front: which kernels no other beats in both time and memory, or in both time and energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...numbers import NO_BREAK, counted, number, place_words, plain
from ..canvas import group_id, panel, svg
from ..drawing import Drawing, scale_words
from ..labels import write_beside
from ..marks import KernelMarks, draw_bound, draw_line
from ..palette import MUTED, Style
from ..quantity import column, flags, lowest_bound, words
from ..scale import Floats, axis_title, shared, spread_out, value_axis

PLACES: Final = 4  # of a section: its first, its last, and some between them
FEWEST: Final = 3  # kernels of which a front says more than a table
NAME: Final = 24  # letters of a name beside its mark
READABLE: Final = 0.3  # of a scale is the least that a panel covers of it if it shares it: names need room


@dataclass(frozen=True)
class WeighedCost:
    """Cost that is weighed against time: its name, its unit, and the title of its axis."""

    name: str
    unit: str
    label: str


COSTS: Final = {
    "peak_mib": WeighedCost("memory", "MiB", "peak memory (MiB)"),
    "energy_j": WeighedCost("energy", "J", "energy of a call (J)"),
}
"""The costs by their columns."""
Reach = tuple[Floats, Floats]


def pareto_front(
    frame: pd.DataFrame, cost: str, styles: Mapping[str, Style], *, reached: Reach | None = None
) -> Figure | None:
    """Return the figure of one place, None where fewer than three kernels have both, or all cost the same.

    ``frame`` are the trials at one place, ``cost`` the column that is weighed against the time, ``reached`` what the
    axes show if other panels share them.
    """
    rows = _rows(frame, cost)
    if len(rows) < FEWEST or len(set(column(rows, cost).tolist())) < 2:
        return None
    time, costs, bound = column(rows, "median_ms"), column(rows, cost), lowest_bound(rows)
    figure, axes = panel(" · ".join([words(rows, "facet")[0], _place(rows)]), label=COSTS[cost].label)
    for name, values in zip("xy", reached or reach(rows, cost), strict=True):
        value_axis(axes, name, values)
    if bound:
        draw_bound(axes, [bound] * 2, axes.get_ylim())
    front = on_front(time, costs)
    order = np.flatnonzero(front)[np.argsort(time[front])]
    # A step goes on as far as the next time, and down there.
    steps = np.repeat(time[order], 2)[1:], np.repeat(costs[order], 2)[:-1]
    draw_line(axes, *steps, color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
    kernels, low, high = words(rows, "kernel"), column(rows, "low_ms"), column(rows, "high_ms")
    looks = [KernelMarks(styles, kernel) for kernel in kernels]
    for index, (marks, record) in enumerate(zip(looks, rows["record"].tolist(), strict=True)):
        marks.intervals(axes, [costs[index]], [low[index]], [high[index]], across=True)
        marks.marks(axes, [time[index]], [costs[index]], [int(record)], size=7 if front[index] else 5)
    upright = [(np.full(2, bound), np.array(axes.get_ylim()))] if bound else []
    intervals = [(np.array(ends), np.full(2, at)) for *ends, at in zip(low, high, costs, strict=True)]
    names = {int(index): plain(kernels[index], NAME) for index in order}
    for index, text in write_beside(axes, time, costs, names, [steps, *upright, *intervals]).items():
        text.set_gid(group_id(looks[index].index))  # the legend hides a name with its mark
    axis_title(axes, "median time (ms)")
    return figure


def reach(rows: pd.DataFrame, cost: str) -> Reach:
    """Return the values that a panel shows across and up: intervals and the bound of the time, and the costs."""
    ends = [column(rows, name) for name in ("median_ms", "low_ms", "high_ms", "bound_ms")]
    time, costs = np.concatenate(ends), column(rows, cost)
    time = time[np.isfinite(time)]
    return np.array([0.9 * time.min(), 1.1 * time.max()]), np.array([0.9 * costs.min(), 1.1 * costs.max()])


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
    shown = spread_out(places, PLACES)
    across, up = (shared(ends, READABLE) if shown else None for ends in _reaches(shown, cost))
    reached = None if across is None or up is None else (across, up)
    found = [(one, figure) for one in shown if (figure := pareto_front(one, cost, styles, reached=reached))]
    if not found:
        return None
    name = COSTS[cost].name
    said = (
        "Kernels on the dashed line have large marks, and their names where there is room: no other is better in time "
        f"and no worse in {name}, or the other way round. Down and to the left is better.",
        "The dotted line is the lower bound of the time." if any(lowest_bound(one) for one, _ in found) else "",
        scale_words(len(found), alike=reached is not None),
        f"Shown at {len(found)} of {counted(len(places), 'place')}." if len(found) < len(places) else "",
    )
    return Drawing(
        name=f"time-{name}",
        title=f"Time against {name}",
        alt=" ".join(_words(one, cost) for one, _ in found),
        caption=" ".join(filter(None, said)),
        panels=[svg(figure) for _, figure in found],
        kernels=sorted({kernel for one, _ in found for kernel in words(one, "kernel")}),
        bound=any(lowest_bound(one) for one, _ in found),
    )


def _reaches(places: Sequence[pd.DataFrame], cost: str) -> tuple[list[Floats], list[Floats]]:
    each = [reach(one, cost) for one in places]
    return [across for across, _ in each], [up for _, up in each]


def _place(rows: pd.DataFrame) -> str:
    """Return where on the axis a panel is, which does not break between lines."""
    return place_words(words(rows, "axis")[0], rows["x"].iloc[0]).replace(" ", NO_BREAK)


def _words(rows: pd.DataFrame, cost: str) -> str:
    kernels = words(rows, "kernel")
    time, costs = column(rows, "median_ms"), column(rows, cost)
    front = np.flatnonzero(on_front(time, costs))
    named = ", ".join(
        f"{kernels[index]} ({number(time[index])} ms, {number(costs[index])} {COSTS[cost].unit})"
        for index in front[np.argsort(time[front])]
    )
    place = place_words(words(rows, "axis")[0], rows["x"].iloc[0])
    return f"{words(rows, 'facet')[0]}, {place}: on the front {named}."
