"""The search for one problem: its space, its strategy, and what was measured so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...common.errors import UserError
from ...kernels.config import Config
from ...kernels.problem import Problem
from ...results.record import Record
from .space import Space
from .stages import score
from .strategy import Strategy


class DefaultFails(UserError):
    """The default configuration fails, so that candidates have nothing to be compared with; the message says why."""


@dataclass
class ProblemSearch:
    """The state of the search for one problem."""

    problem: Problem
    space: Space
    strategy: Strategy
    starts: list[int]
    trials: int = 0
    seconds: float = 0.0
    default_ns: float | None = None

    def tell(self, batch: Sequence[Record]) -> None:
        """Add the records of one interleaved batch.

        Raises:
            DefaultFails: when the default has no time, neither in this batch nor in one before.
        """
        default = next(record for record in batch if record.config == dict(self.space.default))
        if default.timing is not None:
            self.default_ns = score(default, 1.0)[1]
        if self.default_ns is None:
            raise DefaultFails(f"{default.status.value}: {default.reason}")
        for record in batch:
            self._learn(record, self.default_ns)
        self.seconds += sum(record.wall_s for record in batch)

    def leave_out(self, faulty: Sequence[Record]) -> None:
        """Add the records of candidates that the compiler refused, so that they were not measured."""
        for record in faulty:
            self._learn(record, math.inf)

    def _learn(self, record: Record, default_ns: float) -> None:
        if record.config != dict(self.space.default) and record.config in self.space.configs:
            self.strategy.tell(self.space.index(record.config), *score(record, default_ns))
            self.trials += 1

    @property
    def finalists(self) -> list[Config]:
        """The best candidates so far."""
        return [self.space.configs[index] for index in self.strategy.scores.finalists()]

    @property
    def best(self) -> float:
        """The best score so far."""
        return self.strategy.scores.score(self.strategy.scores.best())
