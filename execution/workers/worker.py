"""Worker processes: the unit that crashes. Each holds one rank of one device and can be killed at any moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, MutableSequence, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal, Protocol, cast

from ...common.errors import UserError
from ...kernels.catalog import KERNELS
from ...kernels.signals import uninterrupted
from ...results.record import Environment, Record
from ..trial.task import NOBODY, Task
from .affinity import WHOLE, Affinity, PinnedThreads
from .rendezvous import RankInfo, Rendezvous, talk_through

STARTUP_S = 300.0  # importing torch from a cold disk takes most of a minute on a slow one
HARNESS_S = 900.0  # the float64 reference of a released model's full shape takes minutes on a CPU
POLL_S = 0.1  # how late a death may be noticed; a wake-up this rare does not disturb what is timed
COUNT_S = 1.0  # between two counts of the collectives that a worker has joined

DeviceType = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Ready:
    """A worker's first message: what it measures on."""

    environment: Environment
    commit: str


@dataclass(frozen=True)
class Died:
    """A worker's last message, or what is said for it: whose code ran, how it ended, and why.

    A rank whose process is gone was ``seen`` to die. One that only speaks of an error, or falls silent, may be speaking
    of another's end or waiting for another: of several, it began with the one that had ``joined`` the fewest
    collectives.
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
    """One rank's process, wherever it runs; it first says that it is ready, then gives an answer to each task."""

    def send(self, task: Task) -> None: ...

    def answer(self, wait_s: float) -> Answer | None:
        """Its next message, waited for no longer than about ``wait_s``; Died when it died or is silent too long.

        Raises:
            WorkerError: when whoever watches over it is out of reach.
        """

    @property
    def running(self) -> bool:
        """Whether the process is alive."""

    @property
    def in_reach(self) -> bool:
        """Whether its silence is its own: whoever watches over it was heard of lately."""

    def kill(self) -> None:
        """End the process, whatever it is doing; may be called from another thread than the one that waits for it."""


class LocalWorker:
    """A process of this machine that takes ``seat``; ``kernels`` are what it imports when it starts."""

    def __init__(
        self,
        seat: RankInfo,
        meeting: Rendezvous,
        device_type: DeviceType,
        kernels: Sequence[str],
        mask: Affinity = WHOLE,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._seat = seat
        self._task: Task | None = None
        self._connection, self._theirs = context.Pipe()
        self._heartbeat = cast(MutableSequence[float], context.Array("d", 3, lock=False))
        self._process = context.Process(
            target=serve,
            args=(seat, meeting, device_type, tuple(kernels), mask, self._theirs, self._heartbeat),
            name=f"moebench-rank-{seat.rank}",
            daemon=True,
        )

    def start(self) -> None:
        """Start the process; wait for its answer to know that it is ready."""
        self._heartbeat[:2] = [NOBODY, time.monotonic()]
        with uninterrupted():
            self._process.start()
        self._theirs.close()

    @property
    def pid(self) -> int:
        """The process's number, 0 before it is started."""
        return self._process.pid or 0

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    @property
    def in_reach(self) -> bool:
        return True

    def send(self, task: Task) -> None:
        self._task = task
        self._heartbeat[:2] = [NOBODY, time.monotonic()]
        with suppress(OSError):  # it is dead, as waiting for it will tell
            self._connection.send(task)

    def answer(self, wait_s: float) -> Answer | None:
        try:
            if self._connection.poll(wait_s):
                return cast(Answer, self._connection.recv())
        except (EOFError, OSError):
            return self._death()
        if not self.running and not self._connection.poll():
            return self._death()
        culprit, since, joined = self._heartbeat
        limit_s = _patience_s(self._task, int(culprit))
        if time.monotonic() - since > limit_s:
            return Died(int(culprit), "timeout", f"no answer{_on(self._seat)} for {limit_s:g} s", joined=int(joined))
        return None

    def kill(self) -> None:
        if self.pid:
            self._process.kill()

    def stop(self) -> None:
        """Kill the process and wait until it is gone."""
        self.kill()
        if self.pid:
            self._process.join()
        self._connection.close()
        self._theirs.close()

    def _death(self) -> Died:
        self._process.join()
        reason = f"the worker{_on(self._seat)} {_ending(self._process.exitcode)}"
        return Died(int(self._heartbeat[0]), "crashed", reason, seen=True)


def _on(seat: RankInfo) -> str:
    return f" on rank {seat.rank}" if seat.ranks > 1 else ""


def _patience_s(task: Task | None, culprit: int) -> float:
    """Seconds that a worker may be silent: when it starts, while a competitor's code runs, and while its own does."""
    if task is None:
        return STARTUP_S
    return max(HARNESS_S, task.budget.timeout_s) if culprit == NOBODY else task.budget.timeout_s


def _ending(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit code {exitcode}"


def _count_until_parent_ends(heartbeat: MutableSequence[float], joined: Callable[[], int]) -> None:
    """Keep the count of collectives; end this process with its parent: nobody is left to read the records."""
    if parent := multiprocessing.parent_process():
        while parent.is_alive():
            heartbeat[2] = joined()
            parent.join(COUNT_S)
        os._exit(1)


def serve(
    seat: RankInfo,
    meeting: Rendezvous,
    device_type: DeviceType,
    kernels: Sequence[str],
    mask: Affinity,
    connection: Connection,
    heartbeat: MutableSequence[float],
) -> None:
    """A worker's life: set up the device, import the kernels, then answer each task until the pipe closes.

    One that fails says so and stays, to be killed: its end would have the ranks that wait for it fail as well.
    """
    mask.apply(seat.local_ranks)
    talk_through(meeting.interface)

    def announce(culprit: int) -> None:
        heartbeat[:2] = [culprit, time.monotonic()]

    # Imported here, so that the process that only waits for records does without torch.
    from ..trial.failure import ending, first_line  # noqa: PLC0415
    from .rank_setup import joined_collectives, open_trial_runner  # noqa: PLC0415

    threading.Thread(target=_count_until_parent_ends, args=(heartbeat, joined_collectives), daemon=True).start()
    try:
        for name in kernels:
            KERNELS.load(name)
        bench = open_trial_runner(seat, device_type, meeting, alone=not isinstance(mask, PinnedThreads))
        connection.send(Ready(bench.environment, bench.commit))
        while True:
            task: Task = connection.recv()
            records = bench.run(task, announce)
            connection.send(records if seat.rank == 0 else [])
            announce(NOBODY)
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001  # the parent turns it into a record or into its own error
        where = f"rank {seat.rank}: " if seat.ranks > 1 else ""
        reason = f"{where}{first_line(error)}"
        how: Literal["crashed", "out_of_memory"] = "out_of_memory" if ending(error) == "out_of_memory" else "crashed"
        connection.send(Died(int(heartbeat[0]), how, reason, joined=joined_collectives()))
        connection.poll(None)
