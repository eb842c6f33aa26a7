"""The interface of a search strategy: `ask` for what to measure next, `tell` what was measured."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common.plugins import Catalog
from ...results.timing.stopping_rule import MIN_SAMPLES
from .space import Space

FULL_SAMPLES = 15  # of each candidate: a search ranks its finalists by their median
FINALISTS = 4  # candidates compared again at the end: the samples of a search are too few to rank them
DEFAULT_STRATEGY = "model"
DEFAULT = 0  # the index of the default configuration


@dataclass(frozen=True, order=True)
class Suggestion:
    """A configuration to measure next, and with how many samples."""

    index: int
    samples: int


class Scores:
    """Scores measured so far: the time of a configuration over the default's. The default has score 1.0 by definition.

    Of several measurements of one configuration the one with the most samples counts, of equal ones the last. A
    configuration that failed has no score until it is measured again.
    """

    def __init__(self) -> None:
        self.failed: set[int] = set()
        self._scores: dict[int, tuple[int, float]] = {DEFAULT: (FULL_SAMPLES, 1.0)}

    def add(self, index: int, samples: int, score: float | None) -> None:
        """Add one result: the time over the default's time, or None for a failure."""
        if score is None:
            self.failed.add(index)
            self._scores.pop(index, None)
            return
        self.failed.discard(index)
        if samples >= self.samples(index):
            self._scores[index] = (samples, score)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the configurations that have a score, in the order in which they were first measured."""
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    def __contains__(self, index: object) -> bool:
        return index in self._scores

    def samples(self, index: int) -> int:
        """Return the number of samples behind the score of a configuration, 0 where it has none."""
        return self._scores[index][0] if index in self._scores else 0

    def score(self, index: int) -> float:
        """Return the score of a configuration, infinite where it has none."""
        return self._scores[index][1] if index in self._scores else math.inf

    def finalists(self) -> list[int]:
        """Return the candidates to compare at the end, the best first; scores from more samples rank higher."""
        ranked = sorted(self, key=lambda index: (-self.samples(index), self.score(index)))
        return [index for index in ranked if index != DEFAULT][:FINALISTS]

    def best(self) -> int:
        """Return the configuration with the lowest score; of equals the default.

        Scores from fewer than `MIN_SAMPLES` count only where there are no others. The default's always counts.
        """
        most = max((self.samples(index) for index in self if index != DEFAULT), default=0)
        finalists = (index for index in self if self.samples(index) >= min(most, MIN_SAMPLES))
        return min(finalists, key=lambda index: (self.score(index), index), default=DEFAULT)


class Strategy(ABC):
    """A way to search a space of configurations.

    ``predicted`` holds the seconds that a static model expects of each configuration. Every batch is measured beside
    the default, whose score is known from the start. Results of an earlier search may be passed to `tell` first, and
    several configurations may be asked for before a result is passed. Equal seeds and equal results give equal
    suggestions. A configuration that is unproven is suggested only when nothing else is left.

    Raises:
        ValueError: when there is not one prediction for each configuration.
    """

    def __init__(self, space: Space, *, seed: int, predicted: Sequence[float] | None = None) -> None:
        self.space = space
        self.scores = Scores()
        self._random = np.random.default_rng(seed)
        self._predicted = None if predicted is None else _usable(space, predicted)
        self._asked: set[Suggestion] = set()
        self._pending: set[int] = set()
        self._planned: Suggestion | None = None

    def ask(self, count: int) -> list[Suggestion]:
        """Return at most ``count`` configurations to measure: none at the end, or when the next depends on a result."""
        asks: list[Suggestion] = []
        while len(asks) < count and (ask := self._plan()) is not None:
            self._planned = None
            self._asked.add(ask)
            self._pending.add(ask.index)
            asks.append(ask)
        return asks

    def tell(self, index: int, samples: int, score: float | None) -> None:
        """Add a result: the time of a configuration over the default's in the same batch, None where it failed.

        Raises:
            ValueError: for a configuration outside the space, or a score that is no ratio of times.
        """
        if not 0 <= index < len(self.space):
            raise ValueError(f"index = {index}: give one of the {len(self.space)} configurations")
        if score is not None and not 0 < score < math.inf:
            raise ValueError(f"score = {score}: give a positive number, or None for a configuration that failed")
        self.scores.add(index, samples, score)
        self._pending.discard(index)
        self._planned = None

    @property
    def done(self) -> bool:
        """True when nothing is left to measure, whatever the pending results will be."""
        return not self._pending and self._plan() is None

    @abstractmethod
    def _next(self) -> Suggestion | None:
        """Return the next suggestion; None only at the end, or while a result is pending."""

    def _plan(self) -> Suggestion | None:
        if self._planned is None:
            self._planned = self._next()
        return self._planned

    def _open(self, index: int, samples: int = FULL_SAMPLES) -> bool:
        """Return whether a configuration may be suggested with so many samples; unproven ones only after all others."""
        if index in self.space.unproven and index not in self.scores and self._proven_is_left(samples):
            return False
        return self._unknown(index, samples)

    def _proven_is_left(self, samples: int) -> bool:
        proven = (index for index in range(len(self.space)) if index not in self.space.unproven)
        return any(self._unknown(index, samples) for index in proven)

    def _unknown(self, index: int, samples: int) -> bool:
        """Return whether a configuration has neither failed nor been measured or suggested with so many samples."""
        return (
            index not in self.scores.failed
            and self.scores.samples(index) < samples
            and Suggestion(index, samples) not in self._asked
        )

    def _first_open(self, order: Iterable[int]) -> Suggestion | None:
        """Return the first configuration of an order that has not been measured in full."""
        return next((Suggestion(index, FULL_SAMPLES) for index in order if self._open(index)), None)

    def _shuffled(self) -> list[int]:
        """Return all configurations in a random order."""
        return [int(index) for index in self._random.permutation(len(self.space))]

    def _ranking(self) -> list[int]:
        """Return all configurations by predicted time, or as declared without predictions; the unproven come last."""
        order = range(len(self.space)) if self._predicted is None else np.argsort(self._predicted, kind="stable")
        return sorted(map(int, order), key=lambda index: index in self.space.unproven)


def _usable(space: Space, predicted: Sequence[float]) -> NDArray[np.float64] | None:
    """Return the predictions as positive seconds, or None where none is a time; a missing one counts as the slowest."""
    if len(predicted) != len(space):
        raise ValueError(f"{len(predicted)} predictions for {len(space)} configurations: give one for each, or None")
    seconds = np.asarray(predicted, dtype=np.float64)
    times = np.isfinite(seconds) & (seconds > 0)
    return np.where(times, seconds, seconds[times].max()) if times.any() else None


STRATEGIES: Catalog[type[Strategy]] = Catalog("strategy", f"{__package__}.strategies", "strategy")
