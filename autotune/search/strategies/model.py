"""The static model first, then a surrogate fitted to what was measured: expected improvement picks the next."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..space import Space
from ..strategy import DEFAULT, FULL_SAMPLES, Strategy, Suggestion
from ..surrogate import Observations, Surrogate, expected_improvement

OPENING = 3  # configurations measured before the surrogate has a say
FAILED = 1.5  # times the slowest that was seen: bad enough to keep away, near enough to leave the scale of the others


class Model(Strategy):
    """Bayesian optimisation: an opening by the static model, then the configuration that promises the most.

    Without predictions the opening is drawn by chance. Failures count as slower than anything that was seen.
    """

    def __init__(self, space: Space, *, seed: int, predicted: Sequence[float] | None = None) -> None:
        super().__init__(space, seed=seed, predicted=predicted)
        trend = None if self._predicted is None else np.log(self._predicted)
        self._surrogate = Surrogate(space.features(), [axis.ordered for axis in space.axes], trend)
        self._order = self._shuffled() if self._predicted is None else self._ranking()

    def _next(self) -> Suggestion | None:
        opening = self._first_open(self._order)
        known = len(self.told) + len(self.told.failed) + len(self._pending)
        if opening is None or not len(self.told) or known <= OPENING:
            return opening
        pending = sorted(self._pending - {*self.told, *self.told.failed})
        mean, deviation = self._surrogate.posterior(self._seen(), pending)
        best = float(mean[[*self.told, *pending]].min())
        gain = expected_improvement(best, mean, deviation)
        gain[[index for index in range(len(self.space)) if not self._open(index)]] = -math.inf
        # Of equal promises the first in the order: by prediction, or by chance.
        return Suggestion(max(self._order, key=lambda index: float(gain[index])), FULL_SAMPLES)

    def _seen(self) -> Observations:
        indices = [*self.told, *sorted(self.told.failed)]
        failed = FAILED * max(map(self.told.score, self.told))
        scores = [self.told.score(index) if index in self.told else failed for index in indices]
        noise = [0.0 if i == DEFAULT else FULL_SAMPLES / max(1, self.told.samples(i)) for i in indices]
        return Observations(np.array(indices), np.log(scores), np.array(noise))


strategy = Model
