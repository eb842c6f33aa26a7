"""Scales of a plot: where places lie on an axis, which times a panel spans, and the ticks of its time axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import count

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from ...results.stats import Interval
from ..numbers import exact
from ..row import Row, lower_bound

LOG_AXIS = 8  # an axis that spans more than this is drawn in powers of two
LOG_TIME = 10  # times that span more than a decade are drawn in powers of ten

Floats = NDArray[np.float64]
_NO_TIME = Interval(math.nan, math.nan, math.nan)


def positions(numbers: Sequence[float], words: Sequence[str]) -> dict[float | str, float]:
    """Return where each place of an axis lies: a number by its value or its logarithm, words one by one behind them."""
    wide = numbers[0] > 0 and numbers[-1] / numbers[0] > LOG_AXIS
    at: dict[float | str, float] = {x: math.log2(x) if wide else x for x in numbers}
    last = list(at.values())[-1]
    gap = (last - at[numbers[0]]) / max(1, len(numbers) - 1) or 1.0
    return at | {word: last + gap * order for word, order in zip(words, count(1), strict=False)}


def interval_ends(rows: Sequence[Row | None]) -> tuple[Floats, Floats, Floats]:
    """Return medians and the lengths of their intervals below and above, NaN where there is no time."""
    found = [row.median if row and row.median else _NO_TIME for row in rows]
    middle = np.array([one.value for one in found])
    return middle, middle - [one.low for one in found], [one.high for one in found] - middle


def lower_bounds(groups: Iterable[Sequence[Row]]) -> Floats:
    """Return the lower bound at each place, NaN where none is known."""
    found = map(lower_bound, groups)
    return np.array([math.nan if bound is None else bound for bound in found])


def plotted_times(rows: Sequence[Row], bounds: Floats) -> Floats:
    """Return every time that a panel must show: the ends of all intervals, and the lower bounds."""
    ends = [end for row in rows if row.median for end in (row.median.low, row.median.high)]
    return np.array([*ends, *bounds[np.isfinite(bounds)]])


def limits(times: Floats) -> tuple[float, float]:
    """Return the ends of a time axis, with some room beyond the times; a linear axis begins at 0."""
    if spans_decades(times):
        room = (times.max() / times.min()) ** 0.06
        return float(times.min() / room), float(times.max() * room)
    return 0.0, float(times.max() * 1.08)


def spans_decades(times: Floats) -> bool:
    """Return whether times are so far apart that their axis is logarithmic."""
    return bool(times.min() > 0 and times.max() / times.min() > LOG_TIME)


def time_axis(axis: Axis, times: Floats) -> None:
    """Set the ticks of a time axis."""
    if spans_decades(times):
        few = times.max() / times.min() < 1000
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: exact(value)))
