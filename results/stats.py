"""Statistics of samples: medians, ratios and their intervals. Records keep the samples; these are derived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000  # enough for the ends of a 95 % interval to move by less than their own width over 20


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float


def spread(samples: Sequence[float]) -> float:
    """Half the interquartile range over the median: a relative spread that one outlier cannot move."""
    ordered = sorted(samples)

    def quantile(share: float) -> float:  # as np.percentile, which takes a quarter of a millisecond
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))

    low, middle, high = map(quantile, (0.25, 0.5, 0.75))
    return (high - low) / 2 / middle


def median(samples: Sequence[float]) -> Interval:
    """Return the median with its bootstrap interval (percentile method).

    One sample is its own interval. Seeded: the same samples give the same ends.
    """
    return _interval(float(np.median(samples)), _medians(samples, np.random.default_rng(0)))


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Interval:
    """Return the ratio of two medians with its bootstrap interval (percentile method), each resampled separately.

    Seeded as `median` is.
    """
    generator = np.random.default_rng(0)
    ratios = _medians(numerator, generator) / _medians(denominator, generator)
    return _interval(float(np.median(numerator) / np.median(denominator)), ratios)


def _medians(samples: Sequence[float], generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the medians of ``RESAMPLES`` resamples."""
    values = np.asarray(samples, dtype=float)
    medians: NDArray[np.float64] = np.median(generator.choice(values, (RESAMPLES, values.size)), axis=1)
    return medians


def _interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
