"""Whether a configuration beats the default by more than the noise; else it is a tie, and the default is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ...results.stats import Interval, ratio

LEAST: Final = 0.01  # a default measured against itself differs by so much from one process to the next

Samples = Sequence[float]


@dataclass(frozen=True)
class Selection:
    """``winner`` numbers the candidate that beat the default, None for a tie.

    ``speedup`` is the default's median over that of the fastest candidate, whether that is enough or not; the low end
    of its interval must exceed 1 + ``noise``.
    """

    winner: int | None
    speedup: Interval
    noise: float


def decide(default: Samples, again: Samples, candidates: Sequence[Samples]) -> Selection:
    """Judge candidates by times measured interleaved with the default's, and with the default's once more.

    Without candidates it is a tie.
    """
    unsure = noise(default, again)
    if not candidates:
        return Selection(None, Interval(1.0, 1.0, 1.0), unsure)
    fastest = min(range(len(candidates)), key=lambda number: float(np.median(candidates[number])))
    speedup = ratio(default, candidates[fastest])
    return Selection(fastest if beats(speedup, unsure) else None, speedup, unsure)


def noise(default: Samples, again: Samples) -> float:
    """What the medians of two equal competitors differ by, and no less than ``LEAST``."""
    return max(LEAST, abs(float(np.median(default) / np.median(again)) - 1))


def beats(speedup: Interval, noise: float) -> bool:
    """Whether a speed-up is surely more than the noise."""
    return speedup.low > 1 + noise
