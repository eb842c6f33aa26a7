"""Selection of the winner: a candidate that beats the default by more than the noise; else the default is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ...results.stats import Interval, ratio

LEAST: Final = 0.01  # the default measured against itself differs by this much from one process to the next

Samples = Sequence[float]


@dataclass(frozen=True)
class Selection:
    """The outcome of a comparison: ``winner`` is the index of the candidate that beat the default, None for a tie.

    ``speedup`` is the default's median over that of the fastest candidate, in a tie too. The fastest candidate wins
    when the low end of the interval exceeds 1 + ``noise``.
    """

    winner: int | None
    speedup: Interval
    noise: float


def decide(default: Samples, again: Samples, candidates: Sequence[Samples]) -> Selection:
    """Compare candidates with the default by times measured in the same rounds; ``again`` is the default a second time.

    Without candidates it is a tie.
    """
    unsure = noise(default, again)
    if not candidates:
        return Selection(None, Interval(1.0, 1.0, 1.0), unsure)
    fastest = min(range(len(candidates)), key=lambda number: float(np.median(candidates[number])))
    speedup = ratio(default, candidates[fastest])
    return Selection(fastest if beats(speedup, unsure) else None, speedup, unsure)


def noise(default: Samples, again: Samples) -> float:
    """Return the relative difference of the medians of two equal competitors, at least `LEAST`."""
    return max(LEAST, abs(float(np.median(default) / np.median(again)) - 1))


def beats(speedup: Interval, noise: float) -> bool:
    """Return whether the whole interval of a speed-up is above the noise."""
    return speedup.low > 1 + noise
