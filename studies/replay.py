"""Replay of recorded sweeps: which configuration a strategy would have found, and after how many trials."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moebench.autotune.search.recorded_sweep import RecordedSweep
from moebench.autotune.search.strategy import DEFAULT, STRATEGIES, Scores, Strategy

SEEDS = 20
SHARES = (0.05, 0.1, 0.2, 0.5)  # of a space, after which the regret is reported


@dataclass(frozen=True, kw_only=True)
class Regret:
    """The regret of a strategy after ``trials``: the median and the worst over its seeds."""

    trials: int
    median: float
    worst: float


@dataclass(frozen=True, kw_only=True)
class Study:
    """A strategy on a sweep: the regret of what it would choose after each trial of each seed.

    ``regrets_SN`` is (seeds, trials). A trial is one configuration asked for, with any number of samples.
    """

    strategy: str
    sweep: RecordedSweep
    regrets_SN: NDArray[np.float64]

    @staticmethod
    def of(
        strategy: str,
        sweep: RecordedSweep,
        *,
        predicted: Sequence[float] | None = None,
        seeds: int = SEEDS,
        trials: int | None = None,
    ) -> Study:
        """Search a sweep once for each seed, with ``trials``, by default the largest of `SHARES` of the space.

        Raises:
            UnknownName: when there is no such strategy.
        """
        kind = STRATEGIES.load(strategy)
        trials = trials or _trials(sweep, max(SHARES))
        curves = [_curve(kind(sweep.space, seed=seed, predicted=predicted), sweep, trials) for seed in range(seeds)]
        return Study(strategy=strategy, sweep=sweep, regrets_SN=np.array(curves))

    def after(self, share: float) -> Regret:
        """Return the regret after a share of the space was tried, rounded down to whole trials, and at least one."""
        trials = _trials(self.sweep, share)
        regrets = self.regrets_SN[:, min(trials, self.regrets_SN.shape[1]) - 1]
        return Regret(trials=trials, median=float(np.median(regrets)), worst=float(regrets.max()))


def reported(sweep: RecordedSweep, index: int, samples: int) -> float | None:
    """Return the score that a search receives for a configuration: that of the first samples of its first measurement.

    It is None where the configuration failed.
    """
    pairs = sweep.pairs[index]
    return pairs[0].score(samples) if pairs else None


def chosen(sweep: RecordedSweep, scores: Scores) -> int:
    """Return what a tuner would choose if its search ended now: the best of the finalists and the default.

    The measurements after the first one take the place of the final comparison; a configuration that was measured once
    keeps its score.
    """

    def compared(index: int) -> float:
        later = [pair.score() for pair in sweep.pairs[index][1:]]
        return statistics.fmean(later) if later else scores.score(index)

    return min([DEFAULT, *scores.finalists()], key=compared)


def _trials(sweep: RecordedSweep, share: float) -> int:
    return max(1, math.floor(share * len(sweep.space)))


def _curve(strategy: Strategy, sweep: RecordedSweep, trials: int) -> list[float]:
    """Return the regret after each trial; a strategy that has ended keeps what it has found."""
    curve: list[float] = []
    while len(curve) < trials:
        for ask in strategy.ask(1):
            strategy.tell(ask.index, ask.samples, reported(sweep, ask.index, ask.samples))
        curve.append(sweep.regret(chosen(sweep, strategy.scores)))
    return curve
