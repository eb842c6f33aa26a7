"""Row counts that differ between ranks and between draws of tokens, and the largest of them: the straggler."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri_exp

Floats = NDArray[np.float64]

HALVINGS = 40  # bisections of the interval that holds the median: to 1e-12 of its width


def totals(amount_R: Floats, group_R: NDArray[np.int64]) -> Floats:
    """Return the sum of an amount over each group of ranks, given the group of every rank."""
    return np.bincount(group_R, amount_R).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class RowDistribution:
    """A quantity of each of several ranks, or nodes: its mean and its variance over draws of tokens."""

    mean_R: Floats
    variance_R: Floats

    @staticmethod
    def fixed(amount_R: Floats) -> RowDistribution:
        """Return a distribution without variance: no draw changes the amounts."""
        return RowDistribution(mean_R=amount_R, variance_R=np.zeros_like(amount_R))

    def __add__(self, other: RowDistribution) -> RowDistribution:
        """Return the sum of two distributions, taken as independent."""
        return RowDistribution(mean_R=self.mean_R + other.mean_R, variance_R=self.variance_R + other.variance_R)

    def scaled(self, factor: float) -> RowDistribution:
        """Return the distribution in another unit."""
        return RowDistribution(mean_R=factor * self.mean_R, variance_R=factor**2 * self.variance_R)

    def summed(self, group_R: NDArray[np.int64]) -> RowDistribution:
        """Return the totals of groups of ranks, taken as independent."""
        return RowDistribution(mean_R=totals(self.mean_R, group_R), variance_R=totals(self.variance_R, group_R))

    def repeated(self, count: int) -> RowDistribution:
        """Return the sum of ``count`` independent copies."""
        return RowDistribution(mean_R=count * self.mean_R, variance_R=count * self.variance_R)

    @property
    def mean(self) -> float:
        """The mean over all ranks."""
        return float(self.mean_R.mean())

    def largest(self, copies: int = 1) -> float:
        """Return the median of the largest amount among ``copies`` independent copies of all ranks, taken as normal.

        The median is the x at which the product of Φ((x − mean) / deviation) over all of them is 1/2.
        """
        low = float(self.mean_R.max())
        varies = self.variance_R > 0
        if not varies.any():
            return low
        mean, deviation = self.mean_R[varies], np.sqrt(self.variance_R[varies])
        half = -math.log(2.0) / copies
        high = max(low, float((mean + deviation * ndtri_exp(half / len(mean))).max()))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = log_ndtr((middle - mean) / deviation).sum() < half
            low, high = (middle, high) if below else (low, middle)
        return high
