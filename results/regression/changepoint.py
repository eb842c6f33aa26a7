"""Change points of a series of tens to hundreds of values: E-Divisive (Matteson and James 2014).

The energy distance between two stretches, α = 1, is twice the mean distance between a value of one and a value of the
other, less the mean distances within each. The split with the largest one is tested by permuting the values between the
changes that are known; splitting goes on until a test fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

SIGNIFICANCE: Final = 0.01  # one false change in a hundred series that have none; a history has tens of series
PERMUTATIONS: Final = 499
LEAST: Final = 2  # values between two changes: a single one is an outlier until a second says the same

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ChangePoint:
    """A change: the index of the first value after it, and the probability that chance makes one as clear."""

    at: int
    p: float


def changes(values: Sequence[float]) -> list[ChangePoint]:
    """Return the changes of a series, in order. Seeded: the same values give the same changes."""
    series = np.asarray(values, dtype=float)
    generator = np.random.default_rng(0)
    found: list[ChangePoint] = []
    while True:
        edges = sorted([0, *(change.at for change in found), series.size])
        stretches = [series[start:stop] for start, stop in pairwise(edges)]
        splits = [_best_split(stretch) for stretch in stretches]
        which = max(range(len(splits)), key=lambda index: splits[index][0])
        energy, place = splits[which]
        if energy <= 0:
            break
        exceeded = sum(
            max(_best_split(generator.permutation(stretch))[0] for stretch in stretches) >= energy
            for _ in range(PERMUTATIONS)
        )
        p = (exceeded + 1) / (PERMUTATIONS + 1)
        if p > SIGNIFICANCE:
            break
        found.append(ChangePoint(at=edges[which] + place, p=p))
    return sorted(found, key=lambda change: change.at)


def _best_split(values: Values) -> tuple[float, int]:
    """Return the largest scaled energy distance between the start of a stretch and what follows, and the split.

    The second part may end before the stretch does: a change that is undone later is as clear as one that stays.
    """
    n = values.size
    if n < 2 * LEAST:
        return 0.0, 0
    # The sum of distances between the first i values and the first j.
    sums = np.zeros((n + 1, n + 1))
    sums[1:, 1:] = np.abs(np.subtract.outer(values, values)).cumsum(axis=0).cumsum(axis=1)
    split, end = np.meshgrid(np.arange(LEAST, n - LEAST + 1), np.arange(2 * LEAST, n + 1), indexing="ij")
    before, after = split, np.maximum(end - split, LEAST)
    own = sums.diagonal()
    between = sums[split, end] - own[split]
    within_before, within_after = own[split], own[end] - 2 * sums[split, end] + own[split]
    # Pairs within are counted twice in the sums, and there are n (n - 1) / 2 of them.
    distance = (
        2 * between / (before * after) - within_before / (before * (before - 1)) - within_after / (after * (after - 1))
    )
    energy = np.where(end - split >= LEAST, before * after / (before + after) * distance, -np.inf)
    best = int(energy.argmax())
    return float(energy.flat[best]), int(split.flat[best])
