"""Bayesian optimisation: the static model's best first, then a Gaussian process fitted to what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..space import Space
from ..strategy import DEFAULT, FULL_SAMPLES, Strategy, Suggestion
from ..surrogate import Observations, Surrogate, expected_improvement

OPENING = 3  # configurations measured before the surrogate chooses
FAILED = 1.5  # a failure's score over the slowest measured: enough to keep away, and the scale of the others stays


class ModelGuided(Strategy):
    """Bayesian optimisation: the best predictions first, then the configuration with the largest expected improvement.

    Without predictions the first ones are drawn at random. Failures count as slower than anything measured.
    """

    def __init__(self, space: Space, *, seed: int, predicted: Sequence[float] | None = None) -> None:
        super().__init__(space, seed=seed, predicted=predicted)
        trend = None if self._predicted is None else np.log(self._predicted)
        self._surrogate = Surrogate(space.features(), [axis.ordered for axis in space.axes], trend)
        self._order = self._shuffled() if self._predicted is None else self._ranking()

    def _next(self) -> Suggestion | None:
        opening = self._first_open(self._order)
        known = len(self.scores) + len(self.scores.failed) + len(self._pending)
        if opening is None or not len(self.scores) or known <= OPENING:
            return opening
        pending = sorted(self._pending - {*self.scores, *self.scores.failed})
        mean, deviation = self._surrogate.posterior(self._seen(), pending)
        best = float(mean[[*self.scores, *pending]].min())
        gain = expected_improvement(best, mean, deviation)
        gain[[index for index in range(len(self.space)) if not self._open(index)]] = -math.inf
        # Among equals the first in the order: by prediction, or at random.
        return Suggestion(max(self._order, key=lambda index: float(gain[index])), FULL_SAMPLES)

    def _seen(self) -> Observations:
        indices = [*self.scores, *sorted(self.scores.failed)]
        failed = FAILED * max(map(self.scores.score, self.scores))
        scores = [self.scores.score(index) if index in self.scores else failed for index in indices]
        noise = [0.0 if i == DEFAULT else FULL_SAMPLES / max(1, self.scores.samples(i)) for i in indices]
        return Observations(np.array(indices), np.log(scores), np.array(noise))


strategy = ModelGuided
