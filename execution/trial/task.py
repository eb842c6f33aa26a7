"""What a worker is asked: one point of a suite, and everyone who competes there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...kernels.problem import Problem
from ...results.record import CacheState, Point

if TYPE_CHECKING:
    from ...kernels.config import Config


NOBODY = -1  # no implementation's code is running: inputs are drawn, the reference or the machine's rates are taken


@dataclass(frozen=True, kw_only=True)
class Competitor:
    """A kernel by name, in the default configuration of its space but for what ``config`` says."""

    kernel: str
    config: Config | None = None


@dataclass(frozen=True, kw_only=True)
class Budget:
    """``seconds`` of timed calls for one competitor; ``timeout_s`` after which one silent step is taken for a hang.

    With ``samples`` no more than these are taken, though they be too few to quote: to tell the slow from the fast.
    """

    seconds: float
    timeout_s: float = 300.0
    samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One problem and its competitors, measured interleaved.

    ``interleave_with`` is the folder that runs share which measure at the same time and take samples in turn.
    """

    point: Point
    problem: Problem
    competitors: tuple[Competitor, ...]
    budget: Budget
    interleave_with: Path | None = None

    @property
    def cache(self) -> CacheState:
        """How calls are timed."""
        return self.point.cache
