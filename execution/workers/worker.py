"""Worker: one rank in a process that can crash or be killed, and the messages that it sends."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from ...common.errors import UserError
from ...results.record import Environment, Record
from ..trial.task import Task

STARTUP_S = 300.0  # importing torch from a cold disk takes most of a minute on a slow one
POLL_S = 0.1  # how late a death may be noticed; a wake-up this rare does not disturb what is timed

DeviceType = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Ready:
    """First message of a worker: what it measures on."""

    environment: Environment
    commit: str


@dataclass(frozen=True)
class Died:
    """Last message of a worker, or one made for it: whose code ran, how the worker ended, and why.

    ``culprit`` is the competitor's index in the task, or NOBODY. ``seen`` is true where the process was found gone. A
    rank that reports an error or falls silent may only suffer from the end of another rank: of several such ranks, the
    one that had ``joined`` the fewest collectives is taken for the cause.
    """

    culprit: int
    status: Literal["crashed", "out_of_memory", "timeout"]
    reason: str
    seen: bool = False
    joined: int = 0


Answer = Ready | list[Record] | Died


class WorkerError(UserError):
    """A worker could not be started or is out of reach; the message says why."""


class Worker(Protocol):
    """One rank's process, wherever it runs. It reports once that it is ready, then answers each task."""

    def send(self, task: Task) -> None:
        """Give the worker a task."""

    def receive(self, wait_s: float) -> Answer | None:
        """Return its next message, or None after about ``wait_s``; Died when it died or was silent for too long.

        Raises:
            WorkerError: when the process that watches over the worker is out of reach.
        """

    @property
    def running(self) -> bool:
        """True if the process is alive."""

    @property
    def in_reach(self) -> bool:
        """True if the supervising process was heard of lately, so that a silence is that of the worker itself."""

    def kill(self) -> None:
        """End the process, whatever it is doing; may be called from another thread than the one that receives."""


class WorkerProvider(Protocol):
    """Machines that workers can be started on."""

    @property
    def most_ranks(self) -> int | None:
        """How many workers can run at the same time; None means that there is no known limit."""

    def workers(
        self, ranks: int, device_type: DeviceType, kernels: Sequence[str]
    ) -> AbstractContextManager[Sequence[Worker]]:
        """Start a worker for each rank, in one process group; kill them on leaving.

        ``kernels`` are what the workers import when they start.
        """
