"""History: the time of a point at each commit, in its band of noise, with the changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...numbers import counted, number, plain
from ..canvas import PANELS, panel, svg
from ..drawing import Drawing
from ..marks import KernelMarks, draw_bound, draw_line
from ..palette import MUTED, Style
from ..quantity import column, words
from ..scale import axis_title, spread_out, ticks, value_axis

FEWEST: Final = 3  # commits: two are a comparison, and no history
SHORT: Final = 7  # digits of a commit that fit under a panel
LABELS: Final = 5  # commits that fit beside each other


def history_plot(frame: pd.DataFrame, styles: Mapping[str, Style]) -> Figure | None:
    """Return the figure of one point, None where it was measured at fewer than three commits.

    ``frame`` is the part of a `history_frame` that is of one point. Kernels without a style are left out.
    """
    rows = frame[frame["kernel"].isin(list(styles))]
    if rows["commit"].nunique() < FEWEST:
        return None
    figure, axes = panel(words(rows, "point")[0], label="median time (ms)")
    bound = lowest_bounds(rows)
    value_axis(axes, "y", np.concatenate([*(column(rows, name) for name in ("ms", "low", "high")), bound.to_numpy()]))
    for (kernel, _), found in rows.sort_values("order", kind="stable").groupby(["kernel", "config"]):
        marks = KernelMarks(styles, str(kernel))
        order, ms = column(found, "order"), column(found, "ms")
        marks.band(axes, order, column(found, "low"), column(found, "high"))
        marks.line(axes, order, ms)
        marks.marks(axes, order, ms, ())
        for index in np.flatnonzero(np.isfinite(column(found, "ratio"))):
            at = (order[index - 1] + order[index]) / 2 if index else order[index]
            draw_line(axes, [at, at], axes.get_ylim(), color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.annotate(
                f"× {column(found, 'ratio')[index]:.2f}",
                (at, 1),
                (2, 0),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                va="top",
                color=MUTED,
                fontsize=8.5,
            )
    draw_bound(axes, bound.index.to_numpy(dtype=float), bound.to_numpy())
    commits = rows.drop_duplicates("commit").sort_values("order", kind="stable")
    shown = spread_out(list(zip(column(commits, "order").tolist(), words(commits, "commit"), strict=True)), LABELS)
    ticks(
        axes,
        "x",
        [order for order, _ in shown],
        [plain(commit[:SHORT]) for _, commit in shown],
        marks=column(commits, "order").tolist(),
    )
    first, last = float(column(commits, "order").min()), float(column(commits, "order").max())
    axes.set_xlim(first - 0.05 * (last - first), last + 0.05 * (last - first))
    axis_title(axes, "commit, the earliest measured first")
    return figure


def lowest_bounds(frame: pd.DataFrame) -> pd.Series:
    """Return the lower bound at each commit by its order, that of the kernel with the least work where they differ."""
    found: pd.Series = frame.groupby("order")["bound_ms"].min().dropna()
    return found


def history_drawings(frame: pd.DataFrame, styles: Mapping[str, Style]) -> list[Drawing]:
    """Return the histories of the points of a section, those with changes first, none without three commits."""
    if frame.empty:
        return []
    points = [one for _, one in frame.groupby("point", sort=False)]
    points.sort(key=lambda one: -int(one["ratio"].notna().sum()))
    drawn = [(one, figure) for one in points[:PANELS] if (figure := history_plot(one, styles))]
    if not drawn:
        return []
    changes = int(frame["ratio"].notna().sum())
    bound = any(lowest_bounds(one).size for one, _ in drawn)
    return [
        Drawing(
            name="history",
            title="History over commits",
            alt=f"{counted(changes, 'change')} in {counted(len(points), 'point')}. "
            + " ".join(_words(one) for one, _ in drawn),
            caption="Median over the processes of each commit. The band is what noise does between two changes: two "
            "standard deviations about the median of the times. Dashed lines are changes, with the time after over "
            "before." + " The dotted line is the lower bound of the time." * bound,
            panels=[svg(figure) for _, figure in drawn],
            kernels=sorted({kernel for one, _ in drawn for kernel in words(one, "kernel") if kernel in styles}),
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
