"""Keepers: processes that torchrun started, one for each rank, which keep that rank's worker and outlive it.

Rank 0 gives orders and reads answers in the store of torchrun's rendezvous; a keeper follows them one after another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from ..trial.task import Task
from .rendezvous_store import Store, put, take
from .worker import POLL_S, Answer, DeviceType, LocalWorker, WorkerError

LISTEN_S = 0.25  # how late a keeper whose worker measures hears an order; each look takes a core for 0.1 ms
LIFE_S = 0.5  # between two signs of life
IN_REACH_S = 3 * LIFE_S  # whoever was heard of within it was well; less than what a group gives others for last words
LOST_S = 30.0  # without a sign of life a keeper is lost; a machine that only swaps is heard of again


@dataclass(frozen=True, kw_only=True)
class Start:
    """Start a worker, the last one's end included; it meets the other ``ranks`` of its ``generation``."""

    generation: int
    ranks: int
    device_type: DeviceType
    kernels: tuple[str, ...]


@dataclass(frozen=True)
class Stop:
    """Kill the worker."""


@dataclass(frozen=True)
class Leave:
    """Kill the worker and leave with this exit code."""

    exit_code: int


Order = Start | Task | Stop | Leave


class Heartbeat:
    """Signs of life of one rank's keeper: a number in the store that it counts up."""

    def __init__(self, store: Store, rank: int) -> None:
        self._store = store
        self._rank = rank
        self._key = f"{rank}/life"
        self._count = 0
        self._heard = time.monotonic()
        self._due = 0.0

    def give(self) -> None:
        """Give a sign of life, where it is time for one."""
        if self._is_time():
            self._store.add(self._key, 1)

    def watch(self) -> None:
        """Look for a sign of life, where it is time for one.

        Raises:
            WorkerError: when there was none for LOST_S.
        """
        if not self._is_time():
            return
        count, now = self._store.add(self._key, 0), time.monotonic()
        if count != self._count:
            self._count, self._heard = count, now
        elif now - self._heard > LOST_S:
            raise WorkerError(
                f"the process that keeps rank {self._rank} has given no sign of life for {LOST_S:g} s and is lost: "
                "run it again with the same --output to continue"
            )

    @property
    def in_reach(self) -> bool:
        """Whether a sign was seen lately."""
        return time.monotonic() - self._heard < IN_REACH_S

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + LIFE_S
        return True


class AgentWorker:
    """The worker of one rank as rank 0 knows it, by orders and answers."""

    def __init__(self, store: Store, rank: int) -> None:
        self._store = store
        self._rank = rank
        self._life = Heartbeat(store, rank)
        self._ordered = 0

    def order(self, order: Order) -> None:
        """Leave an order for the keeper."""
        self._ordered += 1
        put(self._store, f"{self._rank}/order/{self._ordered}", order)

    def reply(self, wait_s: float) -> object | None:
        """What the keeper answers to the last order; None when nothing is there yet, after ``wait_s``.

        Raises:
            WorkerError: when the keeper is lost.
        """
        reply = take(self._store, f"{self._rank}/answer/{self._ordered}")
        if reply is None:
            self._life.watch()
            time.sleep(wait_s)
        return reply

    def send(self, task: Task) -> None:
        self.order(task)

    def answer(self, wait_s: float) -> Answer | None:
        return cast(Answer | None, self.reply(wait_s))

    @property
    def running(self) -> bool:
        return take(self._store, f"{self._rank}/ended/{self._ordered}") is None

    @property
    def in_reach(self) -> bool:
        return self._life.in_reach

    def kill(self) -> None:
        self.order(Stop())


class RankAgent:
    """Follows the orders for one rank; ``hire`` makes the worker that an order to start asks for."""

    def __init__(self, store: Store, rank: int, hire: Callable[[Start], LocalWorker]) -> None:
        self._store = store
        self._rank = rank
        self._hire = hire
        self._life = Heartbeat(store, rank)
        self._leader = Heartbeat(store, 0)
        self._number = 0  # of the last order
        self._worker: LocalWorker | None = None
        self._owed: int | None = None  # the order that the worker has yet to answer

    def follow(self) -> int:
        """Follow orders until the one to leave; the exit code to leave with.

        Raises:
            WorkerError: when rank 0 is lost.
        """
        try:
            while not isinstance(order := self._next(), Leave):
                self._obey(order)
        finally:
            self._dismiss()
        self._answer(self._number, order)
        return order.exit_code

    def _next(self) -> Order:
        """Wait for the next order; meanwhile pass on what the worker says."""
        key = f"{self._rank}/order/{self._number + 1}"
        while (order := take(self._store, key)) is None:
            self._life.give()
            self._leader.watch()
            if self._worker is None or self._owed is None:
                self._rest()
            elif (answer := self._worker.answer(LISTEN_S)) is not None:
                self._answer(self._owed, answer)
                self._owed = None
        self._number += 1
        return cast(Order, order)

    def _rest(self) -> None:
        """Nothing is asked for; say so if the worker ends meanwhile."""
        if self._worker is not None and not self._worker.running:
            put(self._store, f"{self._rank}/ended/{self._number}", True)
        time.sleep(POLL_S)

    def _obey(self, order: Start | Task | Stop) -> None:
        self._owed = self._number
        if isinstance(order, Start):
            self._dismiss()
            self._worker = self._hire(order)
            self._worker.start()
        elif self._worker is not None:
            if isinstance(order, Task):
                self._worker.send(order)
            else:
                self._worker.kill()

    def _answer(self, number: int, answer: object) -> None:
        put(self._store, f"{self._rank}/answer/{number}", answer)

    def _dismiss(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
