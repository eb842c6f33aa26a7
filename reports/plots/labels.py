"""Labels: names beside the marks and the lines of a plot, short enough to fit and still told apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from ..numbers import plain
from .canvas import LETTER, LINE, POINTS
from .scale import Floats

SIZE: Final = 8.5  # points of a letter of a name beside a mark
NEAR: Final = 6.0  # points from the middle of a mark to its name
MARK: Final = 4.0  # points from the middle of a mark to its edge
SIDES: Final = ((-1, -1), (1, 1), (1, -1), (-1, 1), (1, 0), (-1, 0))
"""Where a name may stand beside its mark, across and up, in the order of preference."""
_SEPARATOR: Final = re.compile(r" · |, ")

Box = tuple[float, float, float, float]


def told_apart(names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the parts that all names share, and each name without them.

    Parts stand between commas or middle dots. Names that would have nothing left, or would be alike, stay whole.
    """
    parts = [_SEPARATOR.split(name) for name in names]
    common = [part for part in parts[0] if all(part in one for one in parts)] if len(set(names)) > 1 else []
    own = [", ".join(part for part in one if part not in common) for one in parts]
    if not common or not all(own) or len(set(own)) < len(set(names)):
        return "", list(names)
    return ", ".join(common), own


def fitted(names: Sequence[str], letters: int) -> list[str]:
    """Return each name in so many letters at most, 12 or more.

    Of names that would be alike a part before their first difference is left out instead of their ends.
    """
    alike: dict[str, dict[str, None]] = {}
    short = [plain(name, letters) for name in names]
    for name, cut in zip(names, short, strict=True):
        alike.setdefault(cut, {})[name] = None
    starts = {cut: _first_difference(list(found)) - letters // 4 for cut, found in alike.items() if len(found) > 1}
    return [
        plain(f"{name[: letters // 2 - 1]}…{name[starts[cut] :]}", letters) if cut in starts else cut
        for name, cut in zip(names, short, strict=True)
    ]


def _first_difference(names: Sequence[str]) -> int:
    """Return the index of the first letter in which some names differ."""
    differing = (index for index, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1)
    return next(differing, min(map(len, names)))


def write_beside(
    axes: Axes, x: Floats, y: Floats, names: Mapping[int, str], lines: Sequence[tuple[Floats, Floats]] = ()
) -> dict[int, Annotation]:
    """Write the names of some marks beside them, over no mark, no other name and no edge; leave out those without room.

    ``names`` are by the index of the mark in ``x`` and ``y``, and so is what was written. ``lines`` are what a name
    covers only if it must.
    """
    at = _points(axes, x, y)
    points = POINTS / axes.figure.dpi
    frame = axes.bbox.x0 * points, axes.bbox.y0 * points, axes.bbox.x1 * points, axes.bbox.y1 * points
    taken = [(across - MARK, up - MARK, across + MARK, up + MARK) for across, up in at.tolist()]
    crossed = [box for line in lines for box in _boxes(_points(axes, *line))]
    written = {}
    for index, name in names.items():
        places = [(side, _box(at[index], name, side)) for side in SIDES]
        free = (
            (side, box)
            for avoided, (side, box) in product(([*taken, *crossed], taken), places)
            if _inside(box, frame) and not any(_meet(box, other) for other in avoided)
        )
        found = next(free, None)
        if found is None:
            continue
        (across, up), box = found
        taken.append(box)
        written[index] = axes.annotate(
            name,
            (x[index], y[index]),
            (NEAR * across, NEAR / 2 * up),
            textcoords="offset points",
            ha="left" if across > 0 else "right",
            va={-1: "top", 0: "center", 1: "bottom"}[up],
            fontsize=SIZE,
        )
    return written


def _points(axes: Axes, x: Floats, y: Floats) -> Floats:
    """Return where places of the axes are on the figure, in points."""
    found: Floats = axes.transData.transform(np.column_stack([x, y])) * POINTS / axes.figure.dpi
    return found


def _box(at: Floats, name: str, side: tuple[int, int]) -> Box:
    """Return the left, lower, right and upper end of a name beside a mark."""
    across, up = side
    width, height = POINTS * LETTER * SIZE / 9 * len(name), POINTS * LINE * SIZE / 9
    left = float(at[0]) + NEAR * across - (width if across < 0 else 0)
    low = float(at[1]) + NEAR / 2 * up - {-1: height, 0: height / 2, 1: 0}[up]
    return left, low, left + width, low + height


def _boxes(line: Floats) -> list[Box]:
    """Return a box around each straight part of a line."""
    return [(*np.minimum(start, end).tolist(), *np.maximum(start, end).tolist()) for start, end in pairwise(line)]


def _inside(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
