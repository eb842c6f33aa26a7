"""Successive halving: few samples for many configurations, many samples for the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..space import Space
from ..strategy import FULL_SAMPLES, SCREEN_SAMPLES, Strategy, Suggestion

REDUCTION = 3  # of configurations from one rung to the next, as samples grow by the same factor
RUNGS = (SCREEN_SAMPLES, FULL_SAMPLES)


class Halving(Strategy):
    """Asynchronous successive halving (Li et al. 2020, algorithm 2), with samples for the resource.

    A configuration among the best third of those measured on its rung is promoted to the next, and where there is
    none, a new one joins the lowest: the best predictions and random ones in turn, random ones without predictions.
    It can be stopped at any time and keeps any number of workers busy.
    """

    def __init__(self, space: Space, *, seed: int, predicted: Sequence[float] | None = None) -> None:
        super().__init__(space, seed=seed, predicted=predicted)
        self._order = self._shuffled()
        if self._predicted is not None:
            pairs = zip(self._ranking(), self._order, strict=True)
            self._order = list(dict.fromkeys(index for pair in pairs for index in pair))

    def _next(self) -> Suggestion | None:
        for below, above in reversed(list(pairwise(RUNGS))):
            rung = sorted((index for index in self.told if self.told.samples(index) >= below), key=self._standing)
            promoted = (index for index in rung[: -(-len(rung) // REDUCTION)] if self._open(index, above))
            if (index := next(promoted, None)) is not None:
                return Suggestion(index, above)
        return next((Suggestion(index, RUNGS[0]) for index in self._order if self._open(index, RUNGS[0])), None)

    def _standing(self, index: int) -> tuple[float, int]:
        return (self.told.score(index), index)


strategy = Halving
