"""Synthetic landscapes: search spaces with invented times, for questions that no recorded sweep is large enough for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moebench.autotune.search.space import Space
from moebench.autotune.search.strategy import DEFAULT, FULL_SAMPLES, Strategy, Suggestion

Values = Mapping[str, Sequence[int | bool | str]]

FULL: Values = {
    "block_m": (16, 32, 64, 128),
    "block_n": (64, 128, 256),
    "block_k": (32, 64),
    "stages": (2, 3, 4),
    "mode": "abc",
}
WIDE: Values = {**FULL, "group_m": (8, 16, 32), "copies": (False, True)}


@dataclass(frozen=True)
class Landscape:
    """Invented times: axes multiply, pairs of axes interact, and every configuration deviates a little.

    ``samples_SN`` are the scores of single samples with 2 % of noise. ``predicted`` ranks the configurations as well as
    a static model might, with a correlation of 0.7.
    """

    space: Space
    times: NDArray[np.float64]
    samples_SN: NDArray[np.float64]
    predicted: list[float]

    @staticmethod
    def draw(values: Values, seed: int) -> Landscape:
        """Draw the times of all configurations whose tiles would fit a GPU, and take one of them for the default."""
        random = np.random.default_rng(seed)
        configs = [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]
        fitting = [c for c in configs if int(c["block_m"]) * int(c["block_n"]) * int(c["stages"]) < 128 * 256 * 4]
        default = fitting.pop(random.integers(len(fitting)))
        space = Space.among("synthetic", [default, *fitting])
        places = np.array([[axis.values.index(config[axis.name]) for axis in space.axes] for config in space.configs])
        logs = random.normal(0, 0.02, len(space))
        for one, axis in enumerate(space.axes):
            count = len(axis.values)
            shape = np.abs(np.arange(count) - random.uniform(0, count - 1)) ** 1.5
            effect = shape / shape.std() if axis.ordered else random.normal(0, 1, count)
            logs += (random.uniform(0.02, 0.25) * effect)[places[:, one]]
            for other in range(one):
                interaction = random.normal(0, 0.08, (count, len(space.axes[other].values)))
                logs += interaction[places[:, one], places[:, other]]
        logs -= logs[DEFAULT]
        guess = logs + random.normal(0, logs.std() * math.sqrt(1 / 0.7**2 - 1), len(space))
        noise = random.normal(0, 0.02, (FULL_SAMPLES, len(space)))
        return Landscape(space, np.exp(logs), np.exp(logs + noise), np.exp(0.6 * guess).tolist())

    def measured(self, suggestion: Suggestion) -> float:
        """Return the score that the samples of a suggestion have."""
        return float(np.median(self.samples_SN[: suggestion.samples, suggestion.index]))

    def regret(self, candidates: Sequence[int]) -> float:
        """Return what the fastest of some candidates loses to the fastest of all, as a share of the latter's time."""
        return float(self.times[list(candidates)].min() / self.times.min() - 1)

    def search(self, strategy: Strategy, trials: int, batch: int = 1) -> None:
        """Let a strategy try ``trials`` configurations, ``batch`` at a time; stop at the end of the space."""
        left = trials
        while left > 0 and (suggestions := strategy.ask(min(batch, left))):
            left -= len(suggestions)
            for suggestion in suggestions:
                strategy.tell(suggestion.index, suggestion.samples, self.measured(suggestion))
