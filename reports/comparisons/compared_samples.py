"""Samples of both sides of a comparison, as a data frame and as drawings of their distributions."""

from __future__ import annotations

import math

import pandas as pd

from ...results.regression.verdicts import Outcome
from ..plots.canvas import settings
from ..plots.drawing import Drawing
from ..plots.kinds.distributions import distribution_drawings
from .comparison import ComparedPoint, SideBySide

_ORDER = [*Outcome, None]


def compared_drawings(comparison: SideBySide) -> list[Drawing]:
    """Return the drawings of a comparison: the worst verdicts first, then the largest changes."""
    with settings():
        return distribution_drawings(samples_frame(comparison))


def samples_frame(comparison: SideBySide) -> pd.DataFrame:
    """Return one row for each sample of a point that has times on both sides.

    The columns are point, kernel, side (old or new), sample_ms and verdict.
    """
    timed = sorted((point for point in comparison.points if point.ratio), key=_rank)
    several = len({point.suite for point in timed}) > 1
    rows = [
        (f"{point.suite} · {point.place}" if several else point.place, point.kernel, side, sample / 1e6, point.standing)
        for point in timed
        for side, samples in (("old", point.old_samples_ns), ("new", point.new_samples_ns))
        for sample in samples
    ]
    return pd.DataFrame(rows, columns=["point", "kernel", "side", "sample_ms", "verdict"])


def _rank(point: ComparedPoint) -> tuple[int, float]:
    change = abs(math.log(point.ratio.value)) if point.ratio else 0.0
    return _ORDER.index(point.verdict), -change
