"""Who measures: tasks go in, records come out. On how many devices of how many machines is the executor's business."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from ...common.errors import UserError
from ...results.record import Environment, Record
from ..trial.task import Task


class ExecutorError(UserError):
    """Tasks cannot be measured as asked; the message names the remedy."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A task with a record of every competitor, and the seconds that it took where it was measured."""

    task: Task
    records: list[Record]
    seconds: float


class Executor(Protocol):
    """Devices of one kind that measure tasks side by side; a context manager, which starts and ends their workers.

    Every task that is submitted is finished once, in any order. A KeyboardInterrupt of the thread that waits loses
    none: ``next`` gives what is under way afterwards as before. Leaving the context ends at once what is under way.
    """

    @property
    def slots(self) -> int:
        """How many tasks are measured at the same time; those submitted beyond them wait."""

    @property
    def environment(self) -> Environment:
        """What every slot measures on."""

    @property
    def losses(self) -> list[str]:
        """What was lost on the way, where and why, each in a sentence; its tasks were measured again elsewhere."""

    def submit(self, task: Task) -> None:
        """Take a task.

        Raises:
            ExecutorError: when its problem has several ranks, and there are several slots.
        """

    def next(self) -> Finished:
        """Wait for a task to be finished.

        Raises:
            LookupError: when no task is under way.
            ExecutorError, WorkerError: when no slot is left to measure on.
        """

    def __enter__(self) -> Self:
        """Start all workers.

        Raises:
            ExecutorError: when they find themselves on machines that differ.
            WorkerError: when one does not come up.
        """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
