"""Everything, three times over: a truth to judge other strategies by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..space import Space
from ..strategy import DEFAULT, FULL_SAMPLES, Strategy, Suggestion

PASSES = 3  # a neighbour on the machine spoils a batch; the median of three that are minutes apart stands one


class Exhaustive(Strategy):
    """Measures every configuration in each pass, the first time the fastest by prediction first, then by chance."""

    def __init__(self, space: Space, *, seed: int, predicted: Sequence[float] | None = None) -> None:
        self._measured: Counter[int] = Counter()
        super().__init__(space, seed=seed, predicted=predicted)
        self._passes = [self._ranking(), *(self._shuffled() for _ in range(PASSES - 1))]

    def tell(self, index: int, samples: int, score: float | None) -> None:
        super().tell(index, samples, score)
        self._measured[index] += 1

    def _next(self) -> Suggestion | None:
        over = {DEFAULT, *self.told.failed, *self._pending}
        for number, order in enumerate(self._passes):
            for index in order:
                if index not in over and self._measured[index] <= number:
                    return Suggestion(index, FULL_SAMPLES)
        return None


strategy = Exhaustive
