"""How a strategy is spoken to: it is asked what to measure next, and told what came of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common.plugins import Catalog
from .space import Space

SCREEN_SAMPLES = 5  # a median of so few still tells apart what differs by more than the noise of one sample
FULL_SAMPLES = 15  # three times as many: what a search ranks its finalists by
QUOTABLE_SAMPLES = 10  # results.measure.MIN_SAMPLES, without its torch: a time limit may end what is asked in full
FINALISTS = 4  # of a search: its samples are too few to tell which of them is the fastest
DEFAULT_STRATEGY = "model"
DEFAULT = 0  # the index of the default configuration


@dataclass(frozen=True, order=True)
class Suggestion:
    """A configuration to be measured, with how many samples."""

    index: int
    samples: int


class Scores:
    """What is known of each configuration by now, from the start that the default takes as long as itself.

    Of several measurements the one with the most samples counts, of equal ones the last. A failure is known for good,
    unless the configuration is measured after it.
    """

    def __init__(self) -> None:
        self.failed: set[int] = set()
        self._scores: dict[int, tuple[int, float]] = {DEFAULT: (FULL_SAMPLES, 1.0)}

    def add(self, index: int, samples: int, score: float | None) -> None:
        """Take in one result: the time over the default's time, or None where there is none."""
        if score is None:
            self.failed.add(index)
            self._scores.pop(index, None)
            return
        self.failed.discard(index)
        if samples >= self.samples(index):
            self._scores[index] = (samples, score)

    def __iter__(self) -> Iterator[int]:
        """The configurations that have a score, in the order in which they got their first."""
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    def __contains__(self, index: object) -> bool:
        return index in self._scores

    def samples(self, index: int) -> int:
        """How many samples the score of a configuration is from, 0 where there is none."""
        return self._scores[index][0] if index in self._scores else 0

    def score(self, index: int) -> float:
        """The score of a configuration, infinite where there is none."""
        return self._scores[index][1] if index in self._scores else math.inf

    def finalists(self) -> list[int]:
        """What is worth measuring again, the best first: a score from more samples is worth more. Never the default."""
        ranked = sorted(self, key=lambda index: (-self.samples(index), self.score(index)))
        return [index for index in ranked if index != DEFAULT][:FINALISTS]

    def best(self) -> int:
        """The configuration to use if it all ended now: the lowest score.

        Scores from fewer samples than can be quoted count only where there are no others; the default's always does,
        and of equals it is the one to use.
        """
        most = max((self.samples(index) for index in self if index != DEFAULT), default=0)
        finalists = (index for index in self if self.samples(index) >= min(most, QUOTABLE_SAMPLES))
        return min(finalists, key=lambda index: (self.score(index), index), default=DEFAULT)


class Strategy(ABC):
    """A way to search a space of configurations.

    ``predicted`` holds the seconds that a static model expects of each configuration. The default, which every batch
    is measured beside, is known from the start. What was measured before may be told before anything is asked, and
    several configurations may be asked for before one is told. Equal seeds and equal talk give equal answers. What is
    unproven is asked for when nothing else is left to be tried.

    Raises:
        ValueError: when there is not one prediction for each configuration.
    """

    def __init__(self, space: Space, *, seed: int, predicted: Sequence[float] | None = None) -> None:
        self.space = space
        self.told = Scores()
        self._random = np.random.default_rng(seed)
        self._predicted = None if predicted is None else _usable(space, predicted)
        self._asked: set[Suggestion] = set()
        self._pending: set[int] = set()
        self._planned: Suggestion | None = None

    def ask(self, count: int) -> list[Suggestion]:
        """At most ``count`` configurations to measure; none when the next choice waits for a result, or at the end."""
        asks: list[Suggestion] = []
        while len(asks) < count and (ask := self._plan()) is not None:
            self._planned = None
            self._asked.add(ask)
            self._pending.add(ask.index)
            asks.append(ask)
        return asks

    def tell(self, index: int, samples: int, score: float | None) -> None:
        """A result: the time of a configuration over the default's in the same batch, None where it failed.

        Raises:
            ValueError: for a configuration that the space has not, or a score that is no ratio of times.
        """
        if not 0 <= index < len(self.space):
            raise ValueError(f"index = {index}: give one of the {len(self.space)} configurations")
        if score is not None and not 0 < score < math.inf:
            raise ValueError(f"score = {score}: give a positive number, or None for a configuration that failed")
        self.told.add(index, samples, score)
        self._pending.discard(index)
        self._planned = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to ask, whatever will be told."""
        return not self._pending and self._plan() is None

    @abstractmethod
    def _next(self) -> Suggestion | None:
        """What to ask next, given what was told and asked; None only at the end, or where a result is pending."""

    def _plan(self) -> Suggestion | None:
        if self._planned is None:
            self._planned = self._next()
        return self._planned

    def _open(self, index: int, samples: int = FULL_SAMPLES) -> bool:
        """Whether a configuration may be asked for with so many samples: one that is unproven after all others."""
        if index in self.space.unproven and index not in self.told and self._proven_is_left(samples):
            return False
        return self._unknown(index, samples)

    def _proven_is_left(self, samples: int) -> bool:
        proven = (index for index in range(len(self.space)) if index not in self.space.unproven)
        return any(self._unknown(index, samples) for index in proven)

    def _unknown(self, index: int, samples: int) -> bool:
        """Whether a configuration has neither failed nor been measured or asked for with so many samples."""
        return (
            index not in self.told.failed
            and self.told.samples(index) < samples
            and Suggestion(index, samples) not in self._asked
        )

    def _first_open(self, order: Iterable[int]) -> Suggestion | None:
        """The first configuration of an order that has not been measured in full."""
        return next((Suggestion(index, FULL_SAMPLES) for index in order if self._open(index)), None)

    def _shuffled(self) -> list[int]:
        """All configurations in an order drawn by chance."""
        return [int(index) for index in self._random.permutation(len(self.space))]

    def _ranking(self) -> list[int]:
        """All configurations, the fastest by prediction first, as declared where there is none; the unproven last."""
        order = range(len(self.space)) if self._predicted is None else np.argsort(self._predicted, kind="stable")
        return sorted(map(int, order), key=lambda index: index in self.space.unproven)


def _usable(space: Space, predicted: Sequence[float]) -> NDArray[np.float64] | None:
    """The predictions as positive numbers: what has none is taken for the slowest. None where none is a time."""
    if len(predicted) != len(space):
        raise ValueError(f"{len(predicted)} predictions for {len(space)} configurations: give one for each, or None")
    seconds = np.asarray(predicted, dtype=np.float64)
    times = np.isfinite(seconds) & (seconds > 0)
    return np.where(times, seconds, seconds[times].max()) if times.any() else None


STRATEGIES: Catalog[type[Strategy]] = Catalog("strategy", f"{__package__}.strategies", "strategy")
