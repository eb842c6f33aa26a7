"""Random search: the baseline that a strategy has to beat."""

from __future__ import annotations

from collections.abc import Sequence

from ..space import Space
from ..strategy import Strategy, Suggestion


class Random(Strategy):
    """Random search: every configuration once, in a random order."""

    def __init__(self, space: Space, *, seed: int, predicted: Sequence[float] | None = None) -> None:
        super().__init__(space, seed=seed, predicted=predicted)
        self._order = self._shuffled()

    def _next(self) -> Suggestion | None:
        return self._first_open(self._order)


strategy = Random
