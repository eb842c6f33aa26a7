"""Crossovers: where on an axis of tokens another kernel becomes the fastest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from ..numbers import exact, number
from .quantity import column, flags, words


@dataclass(frozen=True)
class Crossover:
    """A place between two that were measured, at which ``after`` becomes as fast as ``before``."""

    x: float
    before: str
    after: str
    between: tuple[float, float]

    @property
    def words(self) -> str:
        low, high = map(exact, self.between)
        return f"T ≈ {number(self.x)} (between {low} and {high}): {self.before} → {self.after}"

    @property
    def note(self) -> str:
        """Return the words under a panel, whose marks show the places that it is between."""
        return f"T ≈ {number(self.x)}: {self.before} → {self.after}"


def crossovers(frame: pd.DataFrame) -> list[Crossover]:
    """Return the places at which the fastest competitor of a facet changes, none where its axis is not of tokens.

    The times of the two are interpolated between neighbouring places, both on logarithmic scales. A change between two
    kernels that are tied at both places is noise.
    """
    rows = frame[flags(frame, "competes") & flags(frame, "numeric")]
    x = column(rows, "x")
    if not len(rows) or not np.array_equal(x, column(rows, "T")) or x.min() <= 0:
        return []
    times: dict[float, dict[str, float]] = {}
    leading: dict[float, set[str]] = {}
    for at, kernel, ms, leads in zip(
        x.tolist(), words(rows, "kernel"), column(rows, "median_ms").tolist(), flags(rows, "leads"), strict=True
    ):
        times.setdefault(at, {})[kernel] = ms
        leading.setdefault(at, set()).update([kernel] if leads else [])
    found = []
    for here, there in pairwise(sorted(times)):
        before, after = (min(times[at], key=times[at].__getitem__) for at in (here, there))
        both = {before, after}
        if before == after or (both <= leading[here] and both <= leading[there]):
            continue
        if not (both <= times[here].keys() and both <= times[there].keys()):
            continue  # one of the two has no time at the other place: there is nothing to interpolate
        at_here, at_there = (math.log(times[at][after] / times[at][before]) for at in (here, there))
        share = at_here / (at_here - at_there)
        found.append(Crossover(here * (there / here) ** share, before, after, (here, there)))
    return found
