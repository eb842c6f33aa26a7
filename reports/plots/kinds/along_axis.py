"""One quantity along the axis of a suite: lines over its numbers, or a band for each of its categories."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...numbers import exact, plain
from ..canvas import BOTTOM, EDGE, LETTER, LINE, TITLE, WIDTH, add_axes, panel
from ..crossovers import Crossover, crossovers
from ..labels import fitted
from ..marks import KernelMarks, draw_area, draw_bound, draw_flag, draw_line
from ..palette import GRID, INK, MUTED, SHADE, Style
from ..quantity import DrawnQuantity, by_kernel, column, flags, words
from ..scale import Floats, axis_title, place_axis, positions, ticks, value_axis

LABEL: Final = 30  # characters of a category that fit beside a panel
BAND: Final = 0.42  # inches of a category with few kernels
MARK: Final = 0.13  # inches that one kernel takes in the band of a category
NOTE: Final = 62  # letters of a crossover that fit under a panel, beside its own
STRIP: Final = 0.75  # inches of the strip with the drop rate
DRAWN: Final = ("value", "low", "high", "record")  # columns of the marks of a kernel
LETTERS: Final = "abcdef"  # of the crossovers of a panel; with more it is noise that changes the fastest


def along_axis(
    frame: pd.DataFrame,
    quantity: DrawnQuantity,
    styles: Mapping[str, Style],
    *,
    places: Sequence[float | str] = (),
    values: Floats | None = None,
) -> Figure | None:
    """Return the figure of one facet, None where it would have a single mark.

    ``frame`` are the trials of one facet as `quantified` returns them. ``places`` are those of all panels beside this
    one if they share their axis, ``values`` what these show on the axis of values if they share that.
    """
    if len(frame) < 2:
        return None
    shown = spanned(frame) if values is None else values
    if is_lines(frame):
        return _lines(frame, quantity, styles, list(places or frame["x"].unique()), shown)
    return _bands(frame, quantity, styles, shown)


def is_lines(frame: pd.DataFrame) -> bool:
    """Return whether there are numbers to connect on the axis of a facet."""
    return frame.loc[flags(frame, "numeric"), "x"].nunique() > 1


def spanned(frame: pd.DataFrame) -> Floats:
    """Return every value that a panel must show: the ends of all intervals, and the limits."""
    found = np.concatenate([column(frame, name) for name in ("low", "high", "limit")])
    finite: Floats = found[np.isfinite(found)]
    return finite


def best_limit(frame: pd.DataFrame, quantity: DrawnQuantity) -> pd.Series:
    """Return the limit at each place: what the competitor with the least work could reach."""
    grouped = frame.groupby("x", sort=False)["limit"]
    return grouped.min() if quantity.lower_is_better else grouped.max()


def _lines(
    frame: pd.DataFrame,
    quantity: DrawnQuantity,
    styles: Mapping[str, Style],
    places: list[float | str],
    values: Floats,
) -> Figure:
    numbers = sorted(x for x in places if not isinstance(x, str))
    at = positions(numbers, [x for x in places if isinstance(x, str)])
    title = words(frame, "facet")[0]
    dropping = dropped(frame)
    named = crossovers(frame)[: len(LETTERS)]
    more = LINE * len(named)
    beneath = 0.0 if dropping is None else STRIP + LINE + 2 * EDGE
    figure, axes = panel(title, label=quantity.label, bottom=BOTTOM + more + beneath)
    value_axis(axes, "y", values)
    for kernel, (x, numeric, value, low, high, record) in by_kernel(frame, "x", "numeric", *DRAWN):
        series = KernelMarks(styles, kernel)
        across = np.array([at[place] for place in x])
        along = np.argsort(across)
        joined = along[numeric[along].astype(bool)]
        series.line(axes, across[joined], value[joined])
        series.intervals(axes, across, low, high)
        series.marks(axes, across, value, record.tolist())
    _limit(axes, best_limit(frame, quantity), at, quantity)
    if len(numbers) < len(at):
        edge = list(at.values())[len(numbers) - 1 : len(numbers) + 1]
        draw_line(axes, [sum(edge) / 2] * 2, axes.get_ylim(), color=GRID)
    _crossings(figure, axes, named, at)
    if dropping is not None:
        above, axes = axes, _strip(figure, axes, dropping, at, BOTTOM + more)
    place_axis(axes, at, words(frame, "axis")[0])
    if dropping is not None:
        above.set_xlim(axes.get_xlim())
    return figure


def _crossings(figure: Figure, axes: Axes, named: Sequence[Crossover], at: Mapping[float | str, float]) -> None:
    """Mark crossovers by letters, whose meaning stands under the panel."""
    numbers = sorted(x for x in at if not isinstance(x, str))
    for order, (letter, one) in enumerate(zip(LETTERS, named, strict=False)):
        tick = np.interp(math.log(one.x), np.log(numbers), [at[x] for x in numbers])
        draw_flag(axes, float(tick), letter)
        bottom = LINE * (len(named) - order - 1) + EDGE / 2
        note = f"{letter}\u2002{plain(one.note, NOTE)}"
        figure.text(EDGE / WIDTH, bottom / figure.get_figheight(), note, fontsize=8.5)


def dropped(frame: pd.DataFrame) -> pd.Series | None:
    """Return the share of the rows that were dropped at each place, None where the axis is no capacity factor."""
    capacity = column(frame, "capacity_factor")
    x = pd.to_numeric(frame["x"], errors="coerce").to_numpy(dtype=float)
    numeric = np.isfinite(x)
    if not numeric.any() or not np.array_equal(capacity[numeric], x[numeric]):
        return None
    found = frame.assign(dropped=column(frame, "drop_rate")).groupby("x", sort=False)["dropped"].max()
    return found if found.max() > 0 else None


def _limit(axes: Axes, limit: pd.Series, at: Mapping[float | str, float], quantity: DrawnQuantity) -> None:
    """Draw the limit as a dotted line over numbers, with a shade behind what no kernel can reach."""
    found = limit.dropna()
    if found.empty:
        return
    numeric = sorted(x for x in found.index if not isinstance(x, str))
    across, line = [at[x] for x in numeric], found[numeric].to_numpy(dtype=float)
    beyond = axes.get_ylim()[0 if quantity.lower_is_better else 1]
    if len(across) > 1:
        draw_bound(axes, across, line)
        draw_area(axes, across, line, beyond, color=SHADE, zorder=0.5)
    apart = [x for x in found.index if isinstance(x, str) or len(across) == 1]
    if apart:
        reach = found[apart].to_numpy(dtype=float)
        draw_line(axes, [at[x] for x in apart], reach, color=INK, linestyle="none", marker="_", markersize=12)


def _strip(figure: Figure, axes: Axes, dropping: pd.Series, at: Mapping[float | str, float], bottom: float) -> Axes:
    """Draw the drop rate under a panel, on the same places, and return its axes."""
    height = figure.get_figheight()
    box = axes.get_position()
    strip = add_axes(figure, (box.x0, bottom / height, box.width, STRIP / height))
    places, share = [at[x] for x in dropping.index], 100 * dropping.to_numpy(dtype=float)
    draw_line(strip, places, share, color=INK, marker="|", linewidth=1)
    draw_area(strip, places, share, 0.0, color=SHADE)
    value_axis(strip, "y", np.array([0.0, max(1.0, float(np.nanmax(share)))]), most=3)
    figure.text(EDGE / WIDTH, (bottom + STRIP + EDGE) / height, "dropped (%)", va="bottom", color=MUTED)
    return strip


def _bands(frame: pd.DataFrame, quantity: DrawnQuantity, styles: Mapping[str, Style], values: Floats) -> Figure:
    """Draw one band for a category and one mark for a kernel, with the value to the right: long names stay readable."""
    places = list(frame["x"].unique())
    names = sorted(frame["kernel"].unique())
    labels = fitted([exact(x) for x in places], LABEL)
    left = 0.3 + LETTER * max(map(len, labels))
    height = len(places) * max(BAND, MARK * len(names))
    figure, axes = panel(
        words(frame, "facet")[0], label=plain(words(frame, "axis")[0], TITLE), height=height, left=left
    )
    value_axis(axes, "x", values)
    shifts = dict(zip(names, np.linspace(-0.32, 0.32, len(names)) if len(names) > 1 else [0.0], strict=True))
    level = {x: order for order, x in enumerate(places)}
    for band in range(0, len(places), 2):
        draw_area(axes, axes.get_xlim(), band - 0.5, band + 0.5, color=SHADE, zorder=0.5)
    for kernel, (x, value, low, high, record) in by_kernel(frame, "x", *DRAWN):
        series = KernelMarks(styles, kernel)
        at = np.array([level[place] for place in x]) + shifts[kernel]
        series.intervals(axes, at, low, high, across=True)
        series.marks(axes, value, at, record.tolist())
    limit = best_limit(frame, quantity).dropna()
    bars = np.array([level[x] for x in limit.index], dtype=float)
    for value, bar in zip(limit.to_numpy(dtype=float), bars, strict=True):
        draw_bound(axes, [value] * 2, [bar - 0.42, bar + 0.42])
    axes.set_ylim(len(places) - 0.5, -0.5)
    ticks(axes, "y", range(len(places)), labels)
    axis_title(axes, quantity.label)
    return figure
