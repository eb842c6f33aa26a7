"""A task of a worker: one point of a suite, and the competitors on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...kernels.problem import Problem
from ...results.record import CacheState, Point

if TYPE_CHECKING:
    from ...kernels.config import Config


Observation = Literal["invariance", "stages"]
"""A field of the record that is observed where a task asks for it."""

Announce = Callable[[int], None]
"""Receives the index of the competitor whose code runs next, so that a hang or a crash can be attributed."""

NOBODY = -1  # no implementation runs: the trial draws inputs, computes the reference or measures the machine


@dataclass(frozen=True, kw_only=True)
class Competitor:
    """A kernel by name, in the default configuration of its space with the values of ``config`` in place of some."""

    kernel: str
    config: Config | None = None


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of a trial: ``seconds`` of timed calls of one competitor, ``timeout_s`` after which a silent step hangs.

    With ``samples`` no more than these are taken. They may be too few to quote, and enough to rank candidates.
    """

    seconds: float
    timeout_s: float = 300.0
    samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One problem and its competitors, whose samples are interleaved.

    ``asks`` are observations that take many calls, and are made for no other task. ``interleave_with`` is the folder
    that runs share which measure at the same time and take samples in turn.
    """

    point: Point
    problem: Problem
    competitors: tuple[Competitor, ...]
    budget: Budget
    asks: tuple[Observation, ...] = ()
    interleave_with: Path | None = None

    @property
    def cache(self) -> CacheState:
        """How calls are timed."""
        return self.point.cache
