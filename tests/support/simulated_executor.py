"""An executor whose times are computed, and a space with a smooth landscape, for tests of the tuner."""

from __future__ import annotations

import dataclasses
import random
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

from records import ENVIRONMENT, TIMING, record

from moebench.autotune.search.space import Space
from moebench.execution.trial.task import Task
from moebench.execution.workers.executor import Executor, Finished, Slot
from moebench.kernels.config import Config
from moebench.kernels.problem import Problem
from moebench.results.record import Environment, Record, Status

SOURCE = "0123"
SPACE = Space.among(
    "scatter", [{"tile": tile, "order": order} for tile in (512, *range(16, 256, 16)) for order in "ab"]
)

Milliseconds = Callable[[Problem, Config], float | Status]


def tiles_near_100(problem: Problem, config: Config) -> float:
    """Cost model with a smooth landscape, whose best tile is 96 for few tokens and 160 for many."""
    best = 96 if problem.T == 64 else 160
    return 1 + abs(int(config["tile"]) - best) / 400 + (0.1 if config["order"] == "b" else 0)


class Imagined(Executor):
    """Executor with computed times; ``interrupt`` is called while task ``interrupt_at`` is awaited."""

    def __init__(self, milliseconds: Milliseconds = tiles_near_100, *, slots: int = 1, interrupt_at: int = 0) -> None:
        super().__init__(dict.fromkeys(map(str, range(slots)), cast(Slot, None)))
        self.tasks: list[Task] = []
        self._milliseconds = milliseconds
        self._submitted: deque[Task] = deque()
        self.interrupt: Callable[[], object] = lambda: None
        self._left = interrupt_at
        self._random = random.Random(0)  # noqa: S311  # noise, not a secret

    @property
    def environment(self) -> Environment:
        return ENVIRONMENT

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def submit(self, task: Task) -> None:
        assert len(self._submitted) < 2 * self.slots
        self.tasks.append(task)
        self._submitted.append(task)

    def next(self) -> Finished:
        self._left -= 1
        if not self._left:
            self.interrupt()
        task = self._submitted.popleft()
        records = [self._record(task, config) for config in configs_of(task)]
        return Finished(task=task, records=records, seconds=1.0)

    def _record(self, task: Task, config: Config) -> Record:
        answer = self._milliseconds(task.problem, config)
        fields: dict[str, Any] = {
            "point": task.point,
            "key": task.problem.key,
            "problem": dataclasses.asdict(task.problem),
            "kernel": "scatter",
            "config": dict(config),
            "source": SOURCE,
            "wall_s": 1.0,
        }
        if isinstance(answer, Status):
            return record(**fields, status=answer, reason="so it is", timing=None)
        count = task.budget.samples or 20
        samples = [1e6 * answer * self._random.uniform(0.999, 1.001) for _ in range(count)]
        return record(**fields, timing=TIMING.model_copy(update={"samples_ns": samples}))


def configs_of(task: Task) -> list[Config]:
    return [who.config for who in task.competitors if who.config is not None]
