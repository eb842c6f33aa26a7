"""Difference of two sides whose processes ran in pairs, with its interval and significance.

The process is the unit: its samples share one layout of memory, so a pair counts once. The two of a pair took their
samples in turn, so what slowed the machine down slowed both: each sample is compared with the one next to it, and the
median of these ratios is the pair's. Wilcoxon's signed ranks (1945) say whether the pairs differ: how many means of two
differences (Walsh 1949) are above zero; between equal sides their number has one distribution, whatever the noise looks
like. The same means, sorted, give the estimate of Hodges and Lehmann (1963) and its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from ..stats import CONFIDENCE, Interval, ratio

FEWEST: Final = 6  # pairs; fewer have no interval of 95 %
UNSEEN_NOISE: Final = 0.1  # between processes, where they are too few to see it: more than recorded, outliers aside

Times = Sequence[float] | NDArray[np.float64]

_TAIL: Final = (1 - CONFIDENCE) / 2


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The ratio of new to old time, and the probabilities that equal sides seem as much slower, or faster."""

    ratio: Interval
    p_slower: float
    p_faster: float


def log_ratio(old: Times, new: Times) -> float:
    """Return the logarithm of the ratio of new to old of a pair of processes, from their samples in order."""
    samples = min(len(old), len(new))
    return float(np.median(np.log(new[:samples]) - np.log(old[:samples])))


def difference(log_ratios: Sequence[float] | NDArray[np.float64]) -> Difference:
    """Compare two sides by the ratios of their pairs, see `log_ratio`.

    The interval is unbounded where there are fewer than ``FEWEST`` pairs.
    """
    logs = np.asarray(log_ratios)
    pairs = logs.size
    means = np.sort(np.add.outer(logs, logs)[np.triu_indices(pairs)]) / 2
    chances = _chances(pairs)
    certain = int(np.searchsorted(-chances, -_TAIL))  # so many means above zero are rarer than that
    bounded = certain <= means.size
    return Difference(
        ratio=Interval(
            math.exp(np.median(means)),
            math.exp(means[means.size - certain]) if bounded else 0.0,
            math.exp(means[certain - 1]) if bounded else math.inf,
        ),
        p_slower=float(chances[np.count_nonzero(means > 0)]),
        p_faster=float(chances[np.count_nonzero(means < 0)]),
    )


def difference_of_few(old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Difference:
    """Compare the samples of fewer than ``FEWEST`` processes a side, given the noise that so few do not show.

    To what the samples say, their pooled medians with a bootstrap interval, comes ``UNSEEN_NOISE`` of each process.
    """
    pooled = ratio(np.concatenate(new).tolist(), np.concatenate(old).tolist())
    log, low, high = np.log([pooled.value, pooled.low, pooled.high])
    width = norm.ppf(1 - _TAIL)
    error = math.hypot((high - low) / 2 / width, UNSEEN_NOISE * math.sqrt(1 / len(old) + 1 / len(new)))
    return Difference(
        ratio=Interval(pooled.value, math.exp(log - width * error), math.exp(log + width * error)),
        p_slower=float(norm.sf(log / error)),
        p_faster=float(norm.cdf(log / error)),
    )


@cache
def _chances(pairs: int) -> NDArray[np.float64]:
    """Return at w the probability that w or more means are above zero, where each rank is either side's by chance."""
    ways = np.ones(1)
    for rank in range(1, pairs + 1):
        ways = np.convolve(ways, [1.0, *[0.0] * (rank - 1), 1.0]) / 2
    chances: NDArray[np.float64] = np.cumsum(ways[::-1])[::-1]
    return chances
