"""Optuna's tree-structured Parzen estimator behind the interface of the others; needs the extra ``search``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ....common.packages import use
from ..space import Axis, Space
from ..strategy import Strategy, Suggestion

OPENING = 10  # configurations measured before the estimator has a say: by fewer it is misled, and Optuna takes as many


class OptunaTpe(Strategy):
    """Measures the configuration nearest to what the estimator (Bergstra et al. 2011, section 4) suggests.

    It suggests a value for each axis by itself and knows nothing of what constraints exclude. The opening is the best
    predictions, or drawn by chance without them.

    Raises:
        Unusable: when Optuna is missing or broken.
    """

    def __init__(self, space: Space, *, seed: int, predicted: Sequence[float] | None = None) -> None:
        super().__init__(space, seed=seed, predicted=predicted)
        self._optuna = _optuna()
        sampler = self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=0)
        self._study = self._optuna.create_study(sampler=sampler)
        self._distributions = {axis.name: self._distribution(axis) for axis in space.axes}
        self._order = self._shuffled() if self._predicted is None else self._ranking()
        self._passed_on: set[tuple[int, int]] = set()

    def _next(self) -> Suggestion | None:
        opening = self._first_open(self._order)
        if opening is None or len(self.told) + len(self.told.failed) + len(self._pending) <= OPENING:
            return opening
        self._pass_on()
        suggestion = self._study.ask(self._distributions)
        # It may be no configuration, so it counts as never measured: what is measured is added by itself.
        self._study.tell(suggestion, state=self._optuna.trial.TrialState.FAIL)
        distances = self.space.distances([suggestion.params[axis.name] for axis in self.space.axes])
        return self._first_open(int(index) for index in np.argsort(distances, kind="stable"))

    def _pass_on(self) -> None:
        """Add to the study what it does not hold yet."""
        for index in (*self.told, *sorted(self.told.failed)):
            known = (index, self.told.samples(index))
            if known not in self._passed_on:
                self._passed_on.add(known)
                self._study.add_trial(self._trial(index))

    def _trial(self, index: int) -> Any:
        """What was told of a configuration; one that failed is among the worst, as Optuna's pruned trials are."""
        places = zip(self._distributions, self.space.coordinates(index), strict=True)
        passed = index in self.told
        states = self._optuna.trial.TrialState
        return self._optuna.trial.create_trial(
            params=dict(places),
            distributions=self._distributions,
            value=self.told.score(index) if passed else None,
            state=states.COMPLETE if passed else states.PRUNED,
        )

    def _distribution(self, axis: Axis) -> Any:
        last = len(axis.values) - 1
        distributions = self._optuna.distributions
        if axis.ordered:
            return distributions.IntDistribution(0, last)
        return distributions.CategoricalDistribution(range(last + 1))


def _optuna() -> Any:
    """The module, its log silenced."""
    remedy = "pip install 'moebench[search]', or choose another strategy than optuna_tpe"
    optuna: Any = use("optuna", partial(importlib.import_module, "optuna"), remedy=remedy)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


strategy = OptunaTpe
