"""How two sides differ whose processes took turns, and how sure that is.

The process is the unit: its samples share one layout of memory, so it counts once, by its median. Only neighbours in
time are compared: of every four processes a side, each of one side with each of the other. How many of these
comparisons a side wins is Wilcoxon's rank sum within blocks (van Elteren 1960); between equal sides its distribution is
exact, whatever the noise looks like. The same comparisons, sorted, give the estimate of Hodges and Lehmann (1963) and
its interval.
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

from .stats import CONFIDENCE, Interval, ratio

TURNS: Final = "ABBABAAB"  # of two sides: what drifts with time, or with its square, weighs on both alike
BLOCK: Final = len(TURNS) // 2  # processes a side; the fewest that can differ surely, once in 70 by chance
UNSEEN_NOISE: Final = 0.1  # between processes, where they are too few to see it: more than recorded, outliers aside

Times = Sequence[float] | NDArray[np.float64]

_TAIL: Final = (1 - CONFIDENCE) / 2


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The time of the new side over that of the old, and the chance to seem so much slower, or faster, when equal."""

    ratio: Interval
    p_slower: float
    p_faster: float


def difference(old: Times, new: Times) -> Difference:
    """Compare the medians of processes, each side in the order of its turns; processes without a counterpart wait.

    The interval is unbounded where there are fewer than ``BLOCK`` a side.
    """
    starts = range(0, min(len(old), len(new)), BLOCK)
    blocks = [(np.log(old[start : start + BLOCK]), np.log(new[start : start + BLOCK])) for start in starts]
    logs = np.sort(np.concatenate([np.subtract.outer(after, before).ravel() for before, after in blocks]))
    chances = _chances(tuple((before.size, after.size) for before, after in blocks))
    certain = int(np.searchsorted(-chances, -_TAIL))  # so many won comparisons are rarer than that
    bounded = certain <= logs.size
    return Difference(
        ratio=Interval(
            math.exp(np.median(logs)),
            math.exp(logs[logs.size - certain]) if bounded else 0.0,
            math.exp(logs[certain - 1]) if bounded else math.inf,
        ),
        p_slower=float(chances[np.count_nonzero(logs > 0)]),
        p_faster=float(chances[np.count_nonzero(logs < 0)]),
    )


def difference_of_few(old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Difference:
    """Compare the samples of fewer than ``BLOCK`` processes a side, given the noise that so few do not show.

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
def _chances(sizes: tuple[tuple[int, int], ...]) -> NDArray[np.float64]:
    """At w, the chance that one of two equal sides wins w or more comparisons in blocks of these sizes."""
    ways = np.ones(1)
    for before, after in sizes:
        ways = np.convolve(ways, _ways(before, after))
    chances: NDArray[np.float64] = np.cumsum(ways[::-1])[::-1]
    chances /= chances[0]
    return chances


@cache
def _ways(before: int, after: int) -> NDArray[np.float64]:
    """At w, in how many orders of a block w comparisons are won (Mann and Whitney 1947): by which side comes last."""
    ways = np.zeros(before * after + 1)
    if not before * after:
        return ways + 1
    won, lost = _ways(before, after - 1), _ways(before - 1, after)
    ways[before : before + won.size] += won
    ways[: lost.size] += lost
    return ways
