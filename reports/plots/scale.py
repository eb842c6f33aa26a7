"""Scales of a plot: where places lie on an axis, which values a panel spans, and the ticks of its axis of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from ..numbers import exact, plain

LOG_AXIS: Final = 8  # an axis that spans more than this is drawn in powers of two
LOG_VALUES: Final = 10  # values that span more than a decade are drawn in powers of ten
TICKS: Final = 9  # numbers that fit under a panel
WORD: Final = 18  # letters of a word that fit under a panel
SQUEEZED: Final = 0.12  # of a panel's height is the least that its own values may cover on a scale that others share

Floats = NDArray[np.float64]


def positions(numbers: Sequence[float], words: Sequence[str]) -> dict[float | str, float]:
    """Return where each place of an axis lies: a number by its value or its logarithm, words one by one behind them."""
    wide = numbers[0] > 0 and numbers[-1] / numbers[0] > LOG_AXIS
    at: dict[float | str, float] = {x: math.log2(x) if wide else x for x in numbers}
    last = list(at.values())[-1]
    gap = (last - at[numbers[0]]) / max(1, len(numbers) - 1) or 1.0
    return at | {word: last + gap * order for word, order in zip(words, count(1), strict=False)}


def place_axis(axes: Axes, at: dict[float | str, float], title: str) -> None:
    """Set the limits and the ticks of an axis of places: some of its numbers, the last among them, and all words."""
    numbers = [x for x in at if not isinstance(x, str)]
    step = math.ceil(len(numbers) / TICKS)
    some = [x for order, x in enumerate(numbers) if (len(numbers) - 1 - order) % step == 0]
    labelled: list[float | str] = [*some, *(x for x in at if isinstance(x, str))]
    axes.set_xticks([at[x] for x in labelled], [plain(exact(x), WORD) for x in labelled])
    ends = min(at.values()), max(at.values())
    room = 0.05 * (ends[1] - ends[0]) or 0.5
    axes.set_xlim(ends[0] - room, ends[1] + room)
    axes.set_xlabel(plain(title, 4 * WORD))


def limits(values: Floats) -> tuple[float, float]:
    """Return the ends of an axis of values, with some room beyond them; a linear axis begins at 0."""
    if spans_decades(values):
        room = (values.max() / values.min()) ** 0.06
        return float(values.min() / room), float(values.max() * room)
    return 0.0, float(values.max() * 1.08) or 1.0


def spans_decades(values: Floats) -> bool:
    """Return whether values are so far apart that their axis is logarithmic."""
    return bool(values.min() > 0 and values.max() / values.min() > LOG_VALUES)


def shared(panels: Sequence[Floats]) -> Floats | None:
    """Return the values that panels span together, or None where one of them would not be readable on their scale."""
    together = np.concatenate(panels)
    low, high = limits(together)
    if spans_decades(together):
        covered = [math.log(one.max() / one.min()) / math.log(high / low) for one in panels]
    else:
        covered = [one.max() / high for one in panels]
    return together if min(covered) >= SQUEEZED else None


def value_axis(axes: Axes, name: str, values: Floats) -> None:
    """Set the scale, the limits and the ticks of the axis ``name``, x or y, for values."""
    if spans_decades(values):
        axes.set(**{f"{name}scale": "log"})
    axis = getattr(axes, f"{name}axis")
    value_ticks(axis, values)
    axes.set(**{f"{name}lim": limits(values)})
    axes.grid(axis="x" if name == "x" else "y")


def value_ticks(axis: Axis, values: Floats) -> None:
    """Set the ticks of an axis of values."""
    if spans_decades(values):
        few = values.max() / values.min() < 1000
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value: float) -> str:
    """Return a value of a tick, in millions or billions where its digits would not fit beside a panel."""
    for power, letter in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= power:
            return f"{exact(value / power)} {letter}"
    return exact(value)
