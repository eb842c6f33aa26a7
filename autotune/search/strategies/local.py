"""Hill climbing: from the default and from the best predictions to whatever neighbour is faster."""

from __future__ import annotations

from collections.abc import Sequence

from ..space import Space
from ..strategy import DEFAULT, Strategy, Suggestion


class Local(Strategy):
    """Moves to the first faster neighbour, and starts anew where there is none.

    New starts are the best predictions and random configurations in turn, random ones alone without predictions.
    """

    def __init__(self, space: Space, *, seed: int, predicted: Sequence[float] | None = None) -> None:
        super().__init__(space, seed=seed, predicted=predicted)
        self._order = self._shuffled()
        self._starts = self._order
        if self._predicted is not None:
            self._starts = [start for pair in zip(self._ranking(), self._order, strict=True) for start in pair]
            self._order = self._ranking()
        self._centre = DEFAULT

    def _next(self) -> Suggestion | None:
        if self._centre in self._pending:
            return None
        if self._centre in self.told:
            near = self._climb()
            if (step := self._first_open(index for index in self._order if index in near)) is not None:
                return step
            if near & self._pending:
                return None
        start = self._first_open(self._starts)
        if start is not None:
            self._centre = start.index
        return start

    def _climb(self) -> set[int]:
        """Move on for as long as a neighbour is known to be faster; the neighbours of where that ends."""
        while True:
            near = self.space.neighbours(self._centre)
            fastest = min(near, key=self.told.score, default=self._centre)
            if self.told.score(fastest) >= self.told.score(self._centre):
                return set(near)
            self._centre = fastest


strategy = Local
