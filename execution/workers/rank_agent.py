"""Agents of torchrun's processes: each starts and watches its rank's worker, and survives the worker.

Rank 0 puts commands into the store of torchrun's rendezvous and reads the answers there; an agent executes the
commands one after another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from ..trial.task import Task
from .local_worker import LocalWorker
from .rendezvous_store import Store, put, take
from .worker import POLL_S, Answer, DeviceType, WorkerError

LISTEN_S = 0.25  # how late an agent whose worker measures sees a command; each look takes a core for 0.1 ms
BEAT_S = 0.5  # between two heartbeats
IN_REACH_S = 3 * BEAT_S  # after a heartbeat its sender counts as reachable; less than `first_failure.LAST_WORDS_S`
LOST_S = 30.0  # without a heartbeat an agent is lost; a machine that only swaps is heard of again


@dataclass(frozen=True, kw_only=True)
class Start:
    """Command to end the present worker and start another, in a group of ``ranks`` of the same ``generation``."""

    generation: int
    ranks: int
    device_type: DeviceType
    kernels: tuple[str, ...]


@dataclass(frozen=True)
class Stop:
    """Command to kill the worker."""


@dataclass(frozen=True)
class Leave:
    """Command to kill the worker and leave with this exit code."""

    exit_code: int


Command = Start | Task | Stop | Leave


class Heartbeat:
    """Heartbeat of one rank's agent: a number in the store that the agent counts up."""

    def __init__(self, store: Store, rank: int) -> None:
        self._store = store
        self._rank = rank
        self._key = f"{rank}/heartbeat"
        self._count = 0
        self._heard = time.monotonic()
        self._due = 0.0

    def beat(self) -> None:
        """Count up, where a beat is due."""
        if self._is_due():
            self._store.add(self._key, 1)

    def watch(self, patience_s: float) -> None:
        """Look at the count, where a look is due.

        Raises:
            WorkerError: when it has not changed for ``patience_s``.
        """
        if not self._is_due():
            return
        count, now = self._store.add(self._key, 0), time.monotonic()
        if count != self._count:
            self._count, self._heard = count, now
        elif now - self._heard > patience_s:
            raise WorkerError(
                f"the process that watches over rank {self._rank} has given no sign of life for {patience_s:g} s and "
                "is lost: run it again with the same --output to continue"
            )

    @property
    def in_reach(self) -> bool:
        """Return whether a beat was seen lately."""
        return time.monotonic() - self._heard < IN_REACH_S

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + BEAT_S
        return True


class AgentWorker:
    """The worker of one rank as rank 0 sees it: commands to the rank's agent, and its answers."""

    def __init__(self, store: Store, rank: int) -> None:
        self._store = store
        self._rank = rank
        self._heartbeat = Heartbeat(store, rank)
        self._sending = threading.Lock()  # one thread runs tasks, another may kill the worker
        self._sent = 0
        self._last: Command | None = None

    def send(self, task: Command) -> None:
        """Leave a command for the agent; a task is one. A command to stop stands until the next other one."""
        with self._sending:
            if task == self._last == Stop():  # who stops repeatedly would never see the answer to the last command
                return
            self._sent += 1
            self._last = task
            put(self._store, f"{self._rank}/command/{self._sent}", task)

    def receive(self, wait_s: float) -> Answer | None:
        """Return the agent's answer to the last command; None where there is none yet, after ``wait_s``.

        Raises:
            WorkerError: when the agent is lost, or out of reach when it was told to stop.
        """
        answer = take(self._store, f"{self._rank}/answer/{self._sent}")
        if answer is None:
            # torchrun gives a process 30 s to end: not to be spent waiting for one that was killed.
            self._heartbeat.watch(IN_REACH_S if self._last == Stop() else LOST_S)
            time.sleep(wait_s)
        return cast(Answer | None, answer)

    @property
    def running(self) -> bool:
        return take(self._store, f"{self._rank}/ended/{self._sent}") is None

    @property
    def in_reach(self) -> bool:
        return self._heartbeat.in_reach

    def kill(self) -> None:
        self.send(Stop())


class RankAgent:
    """Executes the commands for one rank; ``make_worker`` makes the worker that a command to start asks for."""

    def __init__(self, store: Store, rank: int, make_worker: Callable[[Start], LocalWorker]) -> None:
        self._store = store
        self._rank = rank
        self._make_worker = make_worker
        self._heartbeat = Heartbeat(store, rank)
        self._leader = Heartbeat(store, 0)
        self._number = 0  # of the last command
        self._worker: LocalWorker | None = None
        self._owed: int | None = None  # number of the command that the worker has yet to answer

    def serve(self) -> int:
        """Execute commands until the one to leave; return the exit code to leave with.

        Raises:
            WorkerError: when rank 0 is lost.
        """
        try:
            while not isinstance(command := self._next(), Leave):
                self._execute(command)
        finally:
            self._stop_worker()
        self._answer(self._number, [])
        return command.exit_code

    def _next(self) -> Command:
        """Wait for the next command; meanwhile pass on the worker's messages."""
        key = f"{self._rank}/command/{self._number + 1}"
        while (command := take(self._store, key)) is None:
            self._heartbeat.beat()
            self._leader.watch(LOST_S)
            if self._worker is None or self._owed is None:
                self._rest()
            elif (answer := self._worker.receive(LISTEN_S)) is not None:
                self._answer(self._owed, answer)
                self._owed = None
        self._number += 1
        return cast(Command, command)

    def _rest(self) -> None:
        """Wait while no answer is owed; report it if the worker ends meanwhile."""
        if self._worker is not None and not self._worker.running:
            put(self._store, f"{self._rank}/ended/{self._number}", True)
        time.sleep(POLL_S)

    def _execute(self, command: Start | Task | Stop) -> None:
        self._owed = self._number
        if isinstance(command, Start):
            self._stop_worker()
            self._worker = self._make_worker(command)
            self._worker.start()
        elif self._worker is not None:
            if isinstance(command, Task):
                self._worker.send(command)
            else:
                self._worker.kill()

    def _answer(self, number: int, answer: Answer) -> None:
        put(self._store, f"{self._rank}/answer/{number}", answer)

    def _stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
