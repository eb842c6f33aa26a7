"""Every configuration, three times over: the reference that other strategies are judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..space import Space
from ..strategy import DEFAULT, FULL_SAMPLES, Strategy, Suggestion

PASSES = 3  # another process may disturb one batch; the median of three, minutes apart, is right all the same


class Exhaustive(Strategy):
    """Exhaustive search: every configuration in each pass, first by prediction, then in random orders."""

    def __init__(self, space: Space, *, seed: int, predicted: Sequence[float] | None = None) -> None:
        self._measured: Counter[int] = Counter()
        super().__init__(space, seed=seed, predicted=predicted)
        self._passes = [self._ranking(), *(self._shuffled() for _ in range(PASSES - 1))]

    def tell(self, index: int, samples: int, score: float | None) -> None:
        super().tell(index, samples, score)
        self._measured[index] += 1

    def _next(self) -> Suggestion | None:
        over = {DEFAULT, *self.scores.failed, *self._pending}
        for number, order in enumerate(self._passes):
            for index in order:
                if index not in over and self._measured[index] <= number:
                    return Suggestion(index, FULL_SAMPLES)
        return None


strategy = Exhaustive
