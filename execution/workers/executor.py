"""Executor: slots that measure tasks side by side, each with a thread that waits for it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from ...common.errors import UserError
from ...results.record import Environment, Record, Status
from ..trial.task import Task
from .supervisor import unmeasured
from .worker import POLL_S, Ready

RETRIES = 3  # a task that has lost this many slots after the first one is taken for the cause


class ExecutorError(UserError):
    """Tasks cannot be measured as asked; the message names the remedy."""


class SlotLost(Exception):
    """A slot went away with its task: the supervisor itself is gone, not just the worker that runs a kernel."""


class Slot(Protocol):
    """A place where one task at a time is measured. One thread starts and runs it; any other thread may stop it."""

    def start(self) -> Ready:
        """Start the slot, or replace it after SlotLost; return what it measures on."""

    def run(self, task: Task) -> list[Record]:
        """Return the records of every competitor.

        Raises:
            SlotLost: when the slot went away; it may be started again.
        """

    def stop(self) -> None:
        """End the slot, whatever it is doing; may be called again."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A task with a record of every competitor, and the seconds that the task took in its slot."""

    task: Task
    records: list[Record]
    seconds: float


@dataclass(frozen=True)
class _Job:
    """A task on its way: why each slot that had it was lost, and the names of these slots."""

    task: Task
    losses: tuple[str, ...] = ()
    lost_by: frozenset[str] = frozenset()


class Executor:
    """Slots by name, on devices of one kind; a context manager that starts and stops them.

    Every submitted task is finished exactly once, in any order. A task whose slot is lost is given to another slot, at
    most RETRIES times. A slot that fails in another way is used no more, its task is given to another slot, and
    ``next`` raises the slot's error only when no slot is left.

    A KeyboardInterrupt in the thread that waits loses no task: ``next`` still gives what is under way. Leaving the
    context ends what is under way at once.

    ``most_ranks`` is how many ranks one slot can hold; None means any number.
    """

    def __init__(self, slots: Mapping[str, Slot], most_ranks: int | None = None) -> None:
        self._slots = dict(slots)
        self._most_ranks = most_ranks
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()  # guards all that follows
        self._waiting: deque[_Job] = deque()
        self._running = 0
        self._finished: deque[Finished] = deque()
        self._started: dict[str, Ready] = {}
        self._failed: list[Exception] = []
        self._usable = set(slots)
        self._stopped = False
        self.losses: list[str] = []
        """One sentence for each slot that was lost: which and why. Its task was measured again elsewhere."""

    @property
    def slots(self) -> int:
        """How many tasks are measured at the same time; further ones wait."""
        return len(self._slots)

    @property
    def environment(self) -> Environment:
        """The environment that every slot measures in."""
        return self._first.environment

    def submit(self, task: Task) -> None:
        """Take a task.

        Raises:
            ExecutorError: when its problem has more ranks than a slot can hold.
        """
        if self._most_ranks is not None and task.problem.ranks > self._most_ranks:
            raise ExecutorError(
                f"{task.problem.key} has {task.problem.ranks} ranks, a slot has {self._most_ranks}: "
                "measure it with one slot"
            )
        with self._changed:
            self._waiting.append(_Job(task))
            self._changed.notify_all()

    def next(self) -> Finished:
        """Wait for a task to be finished.

        Raises:
            LookupError: when no task is under way.
            ExecutorError, WorkerError: when no slot is left to measure on.
        """
        with self._changed:
            while not self._finished:
                if not self._waiting and not self._running:
                    raise LookupError("no task is under way: submit one first")
                if len(self._failed) == self.slots:
                    raise self._failed[-1]
                self._changed.wait()
            return self._finished.popleft()

    def __enter__(self) -> Self:
        """Start all slots.

        Raises:
            ExecutorError: when they are on machines that differ.
            WorkerError: when a slot does not start.
        """
        for name, slot in self._slots.items():
            thread = threading.Thread(target=self._drive, args=(name, slot), name=f"moebench {name}", daemon=True)
            thread.start()
            self._threads.append(thread)
        try:
            self._wait_until_started()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        while True:
            for slot in self._slots.values():  # repeatedly, because a slot may be starting at this moment
                slot.stop()
            if not any(thread.is_alive() for thread in self._threads):
                return
            for thread in self._threads:
                thread.join(POLL_S)

    def _wait_until_started(self) -> None:
        with self._changed:
            while len(self._started) < self.slots and not self._failed:
                self._changed.wait()
            if self._failed:
                raise self._failed[0]

    @property
    def _first(self) -> Ready:
        return next(iter(self._started.values()))

    def _drive(self, name: str, slot: Slot) -> None:
        """Start a slot, give it one task after another, and start it again when it is lost; runs in its own thread."""
        try:
            self._admit(name, slot.start())
            while job := self._take(name):
                try:
                    self._attempt(name, slot, job)
                except SlotLost:
                    self._admit(name, slot.start())
        except Exception as error:  # noqa: BLE001  # raised again in the thread that waits for the slots
            with self._changed:
                self._failed.append(error)
                self._usable.discard(name)
                self._changed.notify_all()

    def _admit(self, name: str, ready: Ready) -> None:
        with self._changed:
            for other, known in self._started.items():
                differences = known.environment.differs(ready.environment)
                if known.commit != ready.commit:
                    differences.append(f"commit: {known.commit} / {ready.commit}")
                if differences:
                    raise ExecutorError(
                        f"{other} and {name} differ ({'; '.join(differences)}), and their times would be mixed: "
                        "use devices of one kind with the same software, or one slot"
                    )
            self._started[name] = ready
            self._changed.notify_all()

    def _take(self, name: str) -> _Job | None:
        """Wait for the next job of a slot; None when the executor is stopped."""
        with self._changed:
            while not self._stopped:
                job = next((job for job in self._waiting if self._may_take(name, job)), None)
                if job is not None:
                    self._waiting.remove(job)
                    self._running += 1
                    return job
                self._changed.wait()
            return None

    def _may_take(self, name: str, job: _Job) -> bool:
        """Return whether a slot may have a job: one that it lost before only where no other slot is left to try."""
        return name not in job.lost_by or job.lost_by >= self._usable

    def _attempt(self, name: str, slot: Slot, job: _Job) -> None:
        started = time.monotonic()
        try:
            records = slot.run(job.task)
        except Exception as error:
            self._put_back(job, name, f"{name}: {error}", time.monotonic() - started)
            raise
        self._finish(job.task, records, time.monotonic() - started)

    def _put_back(self, job: _Job, name: str, loss: str, seconds: float) -> None:
        job = dataclasses.replace(job, losses=(*job.losses, loss), lost_by=job.lost_by | {name})
        if len(job.losses) > RETRIES:
            reason = f"lost {len(job.losses)} times ({'; '.join(job.losses)})"
            lost = [unmeasured(job.task, who, self._first, Status.crashed, reason) for who in job.task.competitors]
            self._finish(job.task, lost, seconds)
            return
        with self._changed:
            self.losses.append(loss)
            self._running -= 1
            self._waiting.appendleft(job)
            self._changed.notify_all()

    def _finish(self, task: Task, records: list[Record], seconds: float) -> None:
        with self._changed:
            self._running -= 1
            self._finished.append(Finished(task=task, records=records, seconds=seconds))
            self._changed.notify_all()


OpenExecutor = Callable[[Sequence[str], int], AbstractContextManager[Executor]]
"""Opens an executor whose workers import the named kernels when they start, for problems of that many ranks."""
