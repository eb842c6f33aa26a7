"""What the executors share: slots that work side by side, each with a thread that waits for it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from ...results.record import Environment, Record, Status
from ..trial.task import Task
from .executor import ExecutorError, Finished
from .supervisor import unmeasured
from .worker import POLL_S, Ready

RETRIES = 3  # a task whose slot is lost so often after the first time is what loses them


class SlotLost(Exception):
    """A slot went away with the task that it was given: not the worker that runs a kernel, but what watches over it."""


class Slot(Protocol):
    """A place where one task at a time is measured. One thread opens and runs; any other may close meanwhile."""

    def open(self) -> Ready:
        """Start it, or after SlotLost replace it, and say what it measures on."""

    def run(self, task: Task) -> list[Record]:
        """Records of every competitor.

        Raises:
            SlotLost: when the slot went away; it may be opened again.
        """

    def close(self) -> None:
        """End it, whatever it is doing; may be called again."""


@dataclass(frozen=True)
class _Job:
    """A task on its way, and why it came back from which slots that were lost."""

    task: Task
    losses: tuple[str, ...] = ()
    lost_by: frozenset[str] = frozenset()


class Pool:
    """An executor made of slots by name. A task whose slot is lost is given to another one, at most RETRIES times.

    A slot that fails otherwise is used no more, its task is given to another one too, and ``next`` raises its error
    only when no slot is left.
    """

    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self._slots = dict(slots)
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()  # guards all that follows
        self._waiting: deque[_Job] = deque()
        self._running = 0
        self._finished: deque[Finished] = deque()
        self._opened: dict[str, Ready] = {}
        self._failed: list[Exception] = []
        self._usable = set(slots)
        self._closed = False
        self.losses: list[str] = []

    @property
    def slots(self) -> int:
        return len(self._slots)

    @property
    def environment(self) -> Environment:
        return self._first.environment

    def submit(self, task: Task) -> None:
        if task.problem.ranks > 1 and self.slots > 1:
            raise ExecutorError(
                f"{task.problem.key} has {task.problem.ranks} ranks, each of the {self.slots} slots has one: "
                "measure it with one slot"
            )
        with self._changed:
            self._waiting.append(_Job(task))
            self._changed.notify_all()

    def next(self) -> Finished:
        with self._changed:
            while not self._finished:
                if not self._waiting and not self._running:
                    raise LookupError("no task is under way: submit one first")
                if len(self._failed) == self.slots:
                    raise self._failed[-1]
                self._changed.wait()
            return self._finished.popleft()

    def __enter__(self) -> Self:
        for name, slot in self._slots.items():
            thread = threading.Thread(target=self._live, args=(name, slot), name=f"moebench {name}", daemon=True)
            thread.start()
            self._threads.append(thread)
        try:
            self._wait_until_open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while True:
            for slot in self._slots.values():  # again and again: it may just be opening
                slot.close()
            if not any(thread.is_alive() for thread in self._threads):
                return
            for thread in self._threads:
                thread.join(POLL_S)

    def _wait_until_open(self) -> None:
        with self._changed:
            while len(self._opened) < self.slots and not self._failed:
                self._changed.wait()
            if self._failed:
                raise self._failed[0]

    @property
    def _first(self) -> Ready:
        return next(iter(self._opened.values()))

    def _live(self, name: str, slot: Slot) -> None:
        """What a slot's thread does: open it, give it one task after another, open it again when it is lost."""
        try:
            self._admit(name, slot.open())
            while job := self._take(name):
                try:
                    self._attempt(name, slot, job)
                except SlotLost:
                    self._admit(name, slot.open())
        except Exception as error:  # noqa: BLE001  # raised where somebody waits for the slots
            with self._changed:
                self._failed.append(error)
                self._usable.discard(name)
                self._changed.notify_all()

    def _admit(self, name: str, ready: Ready) -> None:
        with self._changed:
            for other, known in self._opened.items():
                differences = known.environment.differs(ready.environment)
                if known.commit != ready.commit:
                    differences.append(f"commit: {known.commit} / {ready.commit}")
                if differences:
                    raise ExecutorError(
                        f"{other} and {name} differ ({'; '.join(differences)}), and their times would be mixed: "
                        "use devices of one kind with the same software"
                    )
            self._opened[name] = ready
            self._changed.notify_all()

    def _take(self, name: str) -> _Job | None:
        """The next job for a slot, or None when the pool is closed."""
        with self._changed:
            while not self._closed:
                job = next((job for job in self._waiting if self._may_take(name, job)), None)
                if job is not None:
                    self._waiting.remove(job)
                    self._running += 1
                    return job
                self._changed.wait()
            return None

    def _may_take(self, name: str, job: _Job) -> bool:
        """A slot that lost it is given it again only where no other is left to try."""
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
