"""History: the time of a point at each commit, in its band of noise, with the changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...numbers import counted, number, plain
from ..canvas import PANELS, panel, svg
from ..drawing import Drawing, left_out, scale_words
from ..marks import KernelMarks, draw_bound, draw_flag
from ..palette import Style
from ..quantity import column, words
from ..scale import Floats, axis_title, shared, spread_out, ticks, value_axis

FEWEST: Final = 3  # commits: two are a comparison, and no history
SHORT: Final = 7  # digits of a commit that fit under a panel
LABELS: Final = 5  # commits that fit beside each other


def history_plot(
    frame: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    beside: pd.DataFrame | None = None,
    values: Floats | None = None,
) -> Figure | None:
    """Return the figure of one point, None where it was measured at fewer than three commits.

    ``frame`` is the part of a `history_frame` that is of one point, ``beside`` that of all panels that share its axis
    of commits, ``values`` what the axis of times shows if they share that. Kernels without a style are left out.
    """
    rows = frame[frame["kernel"].isin(list(styles))]
    if rows["commit"].nunique() < FEWEST:
        return None
    figure, axes = panel(words(rows, "point")[0], label="median time (ms)")
    value_axis(axes, "y", spanned(rows) if values is None else values)
    _commit_axis(axes, rows if beside is None else beside)
    for (kernel, _), found in rows.sort_values("order", kind="stable").groupby(["kernel", "config"]):
        marks = KernelMarks(styles, str(kernel))
        order, ms = column(found, "order"), column(found, "ms")
        marks.band(axes, order, column(found, "low"), column(found, "high"))
        marks.line(axes, order, ms)
        marks.marks(axes, order, ms, ())
        _draw_changes(axes, order, column(found, "ratio"))
    bound = lowest_bounds(rows)
    draw_bound(axes, bound.index.to_numpy(dtype=float), bound.to_numpy())
    return figure


def spanned(rows: pd.DataFrame) -> Floats:
    """Return every value that a panel must show: the times, the ends of their bands, and the bounds."""
    found = np.concatenate([column(rows, name) for name in ("ms", "low", "high", "bound_ms")])
    finite: Floats = found[np.isfinite(found)]
    return finite


def _draw_changes(axes: Axes, order: Floats, ratio: Floats) -> None:
    """Draw a line before each commit at which a change begins, with the time after over before above it."""
    for index in np.flatnonzero(np.isfinite(ratio)):
        at = (order[index - 1] + order[index]) / 2 if index else order[index]
        draw_flag(axes, float(at), f"× {ratio[index]:.2f}", linestyle=(0, (2, 2)))


def _commit_axis(axes: Axes, rows: pd.DataFrame) -> None:
    commits = rows.drop_duplicates("commit").sort_values("order", kind="stable")
    order = column(commits, "order").tolist()
    room = 0.05 * (order[-1] - order[0])
    axes.set_xlim(order[0] - room, order[-1] + room)
    shown = spread_out(list(zip(order, words(commits, "commit"), strict=True)), LABELS)
    ticks(axes, "x", [at for at, _ in shown], [plain(commit[:SHORT]) for _, commit in shown], marks=order)
    axis_title(axes, "commit, the earliest measured first")


def lowest_bounds(frame: pd.DataFrame) -> pd.Series:
    """Return the lower bound at each commit by its order, that of the kernel with the least work where they differ."""
    found: pd.Series = frame.groupby("order")["bound_ms"].min().dropna()
    return found


def history_drawings(frame: pd.DataFrame, styles: Mapping[str, Style]) -> list[Drawing]:
    """Return the histories of the points of a section, those with changes first, none without three commits."""
    if frame.empty:
        return []
    points = [one for _, one in frame[frame["kernel"].isin(list(styles))].groupby("point", sort=False)]
    points = [one for one in points if one["commit"].nunique() >= FEWEST]
    points.sort(key=lambda one: -int(one["ratio"].notna().sum()))
    drawn = points[:PANELS]
    if not drawn:
        return []
    values = shared([spanned(one) for one in drawn])
    figures = [history_plot(one, styles, beside=pd.concat(drawn), values=values) for one in drawn]
    changes = sum(int(one["ratio"].notna().sum()) for one in points)
    bound = any(lowest_bounds(one).size for one in drawn)
    said = (
        "Median over the processes of each commit. The band is what noise does between two changes: two standard "
        "deviations about the median of the times. Dashed lines are changes, with the time after over before.",
        "The dotted line is the lower bound of the time." if bound else "",
        scale_words(len(drawn), alike=values is not None),
        left_out(len(points) - len(drawn), "point"),
    )
    return [
        Drawing(
            name="history",
            title="History over commits",
            alt=" ".join([f"{counted(changes, 'change')} in {counted(len(points), 'point')}.", *map(_words, drawn)]),
            caption=" ".join(filter(None, said)),
            panels=[svg(figure) for figure in figures if figure],
            kernels=sorted({kernel for one in drawn for kernel in words(one, "kernel")}),
            bound=bound,
        )
    ]


def _words(frame: pd.DataFrame) -> str:
    changed = frame[frame["ratio"].notna()]
    said = [
        f"{kernel} × {ratio:.2f} at {commit[:SHORT]}"
        for kernel, commit, ratio in zip(
            words(changed, "kernel"), words(changed, "commit"), column(changed, "ratio"), strict=True
        )
    ]
    times = column(frame, "ms")
    span = f"{number(times.min())} to {number(times.max())} ms over {counted(frame['commit'].nunique(), 'commit')}"
    return f"{words(frame, 'point')[0]}: {span}, {', '.join(said) or 'no change'}."
