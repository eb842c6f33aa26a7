"""Scales of a plot: where places lie on an axis, which values a panel spans, and the ticks of its axis of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count, pairwise
from typing import Final, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.markers import TICKDOWN, TICKLEFT, MarkerStyle
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform
from numpy.typing import NDArray

from ..numbers import exact, plain
from .canvas import LETTER, WIDTH
from .palette import GRID, MUTED

LOG_AXIS: Final = 8  # an axis that spans more than this is drawn in powers of two
LOG_VALUES: Final = 10  # values that span more than a decade are drawn in powers of ten
MOST_POWERS: Final = 8  # powers of ten that fit beside a panel
WORD: Final = 18  # letters of a word that fit under a panel
SQUEEZED: Final = 0.12  # of a panel's height is the least that its own values may cover on a scale that others share

Thing = TypeVar("Thing")
Floats = NDArray[np.float64]


def positions(numbers: Sequence[float], words: Sequence[str]) -> dict[float | str, float]:
    """Return where each place of an axis lies: a number by its value or its logarithm, words one by one behind them."""
    wide = numbers[0] > 0 and numbers[-1] / numbers[0] > LOG_AXIS
    at: dict[float | str, float] = {x: math.log2(x) if wide else x for x in numbers}
    last = list(at.values())[-1]
    gap = (last - at[numbers[0]]) / max(1, len(numbers) - 1) or 1.0
    return at | {word: last + gap * order for word, order in zip(words, count(1), strict=False)}


def place_axis(axes: Axes, at: dict[float | str, float], title: str) -> None:
    """Set the limits and the ticks of an axis of places: those whose labels have room, the last among them.

    All words are labelled.
    """
    ends = min(at.values()), max(at.values())
    room = 0.05 * (ends[1] - ends[0]) or 0.5
    axes.set_xlim(ends[0] - room, ends[1] + room)
    inches = axes.get_position().width * WIDTH / (ends[1] - ends[0] + 2 * room)
    labelled = _with_room({x: inches * place for x, place in at.items()})
    ticks(axes, "x", [at[x] for x in labelled], [_place(x) for x in labelled], marks=list(at.values()))
    axis_title(axes, title)


def _with_room(at: dict[float | str, float]) -> list[float | str]:
    """Return the places whose labels do not touch, the last among them; of evenly spaced ones every second, third, ...

    ``at`` is where they are in inches.
    """
    found: list[float | str] = list(reversed(at))
    if np.allclose(np.diff(list(at.values()), 2), 0, atol=1e-3):
        return next(found[::step] for step in range(1, len(found) + 1) if _apart(at, found[::step]))[::-1]
    labelled = found[:1]
    for x in found[1:]:
        if _apart(at, [labelled[-1], x]):
            labelled.append(x)
    return labelled[::-1]


def _apart(at: dict[float | str, float], found: Sequence[float | str]) -> bool:
    """Return whether the labels of places, from the last to the first, do not touch."""
    half = [LETTER * (len(_place(x)) + 1) / 2 for x in found]
    gaps = zip(pairwise(found), pairwise(half), strict=True)
    return all(at[right] - at[left] > sum(widths) for (right, left), widths in gaps)


def _place(x: float | str) -> str:
    return plain(exact(x), WORD)


def ticks(
    axes: Axes,
    name: str,
    at: Sequence[float],
    labels: Sequence[str],
    *,
    marks: Sequence[float] = (),
    grid: bool = False,
    size: float = 9,
) -> None:
    """Write labels along the axis ``name``, x or y, with lines of a grid at them or marks beside ``marks``."""
    across = name == "x"
    inside = axes.get_xaxis_transform() if across else axes.get_yaxis_transform()
    beside = inside + _away(axes, (0, -5) if across else (-5, 0))
    for place, label in zip(at, labels, strict=True):
        x, y = (place, 0.0) if across else (0.0, place)
        sides = ("center", "top") if across else ("right", "center")
        axes.text(x, y, label, transform=beside, ha=sides[0], va=sides[1], fontsize=size)
    if grid:
        ends = np.tile([0.0, 1.0, np.nan], len(at))
        places = np.repeat(np.asarray(at, dtype=float), 3)
        x_y = (places, ends) if across else (ends, places)
        axes.add_artist(Line2D(*x_y, transform=inside, color=GRID, linewidth=0.8, zorder=0.6))
    if len(marks):
        zeros = np.zeros(len(marks))
        x_y = (np.asarray(marks), zeros) if across else (zeros, np.asarray(marks))
        line = Line2D(*x_y, transform=inside, color=MUTED, linestyle="none", clip_on=False)
        line.set_marker(MarkerStyle(TICKDOWN if across else TICKLEFT))
        line.set_markersize(3)
        axes.add_artist(line)


def _away(axes: Axes, points: tuple[float, float]) -> Transform:
    """Return the transform that moves by so many points."""
    return ScaledTranslation(points[0] / 72, points[1] / 72, axes.figure.dpi_scale_trans)


def axis_title(axes: Axes, title: str, letters: int = 60) -> None:
    """Write the title of the horizontal axis under its labels."""
    beneath = axes.transAxes + _away(axes, (0, -19))
    axes.text(0.5, 0, plain(title, letters), transform=beneath, ha="center", va="top")


def limits(values: Floats) -> tuple[float, float]:
    """Return the ends of an axis of values, with some room beyond them; a linear axis begins at 0."""
    if spans_decades(values):
        room = (values.max() / values.min()) ** 0.06
        return float(values.min() / room), float(values.max() * room)
    return 0.0, float(values.max() * 1.08) or 1.0


def spans_decades(values: Floats) -> bool:
    """Return whether values are so far apart that their axis is logarithmic."""
    return bool(values.min() > 0 and values.max() / values.min() > LOG_VALUES)


def shared(panels: Sequence[Floats], least: float = SQUEEZED) -> Floats | None:
    """Return the values that panels span together, or None where one would cover less of that than ``least``."""
    together = np.concatenate(panels)
    low, high = limits(together)
    if spans_decades(together):
        covered = [math.log(one.max() / one.min()) / math.log(high / low) for one in panels]
    else:
        covered = [one.max() / high for one in panels]
    return together if min(covered) >= least else None


def value_axis(axes: Axes, name: str, values: Floats, most: int = 6) -> None:
    """Set the scale, the limits, the grid and ``most`` labels of the axis ``name``, x or y, for values."""
    if spans_decades(values):
        axes.set(**{f"{name}scale": "log"})
    axes.set(**{f"{name}lim": limits(values)})
    at = value_ticks(values, most)
    ticks(axes, name, at, [_tick(value) for value in at], grid=True)


def value_ticks(values: Floats, most: int = 6) -> list[float]:
    """Return the round values within the limits of an axis of values."""
    low, high = limits(values)
    if not spans_decades(values):
        return [float(value) for value in MaxNLocator(most).tick_values(low, high) if low <= value <= high]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    step = math.ceil(len(powers) / MOST_POWERS)
    factors = (1, 2, 5) if high / low < 1000 else (1,)
    found = [factor * 10.0**power for power in powers[::step] for factor in factors]
    return [value for value in found if low <= value <= high]


def _tick(value: float) -> str:
    """Return a value of a tick, in millions or billions where its digits would not fit beside a panel."""
    for power, letter in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= power:
            return f"{exact(value / power)} {letter}"
    return exact(value)


def spread_out(found: Sequence[Thing], most: int) -> list[Thing]:
    """Return some of a sequence, evenly spread, the first and the last among them, or all if they are few."""
    if len(found) <= most:
        return list(found)
    return [found[round(order * (len(found) - 1) / (most - 1))] for order in range(most)]
