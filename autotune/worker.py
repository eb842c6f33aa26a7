"""Worker processes: the unit that crashes. Each holds one rank of one device and can be killed at any moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import MutableSequence, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Literal, cast

from ..kernels.catalog import KERNELS
from ..kernels.spawn import uninterrupted
from ..results.record import Environment, Record
from .mask import WHOLE, Mask
from .task import NOBODY, Task

STARTUP_S = 300.0  # importing torch from a cold disk takes most of a minute on a slow one
HARNESS_S = 900.0  # the float64 reference of a released model's full shape takes minutes on a CPU
POLL_S = 0.1  # how late a death may be noticed; a wake-up this rare does not disturb what is timed

DeviceType = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Ready:
    """A worker's first message: what it measures on."""

    environment: Environment
    commit: str


@dataclass(frozen=True)
class Died:
    """A worker's last message, or what is said for it: whose code ran, how it ended, and why.

    ``spoke`` tells the two apart: a rank that speaks of its peers' end is not where the trouble began.
    """

    culprit: int
    status: Literal["crashed", "timeout"]
    reason: str
    spoke: bool = False


class WorkerError(Exception):
    """A worker could not be started; the message says why."""


class WorkerGroup:
    """One process for each rank, all running the same task within the same ``mask``.

    ``kernels`` are what they import when they start.
    """

    def __init__(self, device_type: DeviceType, ranks: int, kernels: Sequence[str], mask: Mask = WHOLE) -> None:
        self._device_type = device_type
        self._kernels = tuple(kernels)
        self._mask = mask
        self.ranks = ranks
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[SpawnProcess] = []
        self._connections: list[Connection] = []
        self._heartbeats: list[MutableSequence[float]] = []
        self._meeting: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> Ready:
        """Start the processes and wait until they can take a task.

        Raises:
            WorkerError: when one does not come up.
        """
        self._meeting = tempfile.TemporaryDirectory(prefix="moebench-")
        rendezvous = Path(self._meeting.name) / "rendezvous"
        for rank in range(self.ranks):
            here, there = self._context.Pipe()
            heartbeat = self._context.Array("d", [NOBODY, time.monotonic()], lock=False)
            process = self._context.Process(
                target=serve,
                args=(rank, self.ranks, self._device_type, self._kernels, self._mask, rendezvous, there, heartbeat),
                name=f"moebench-rank-{rank}",
                daemon=True,
            )
            with uninterrupted():
                process.start()
                self._processes.append(process)
            there.close()
            self._connections.append(here)
            self._heartbeats.append(cast(MutableSequence[float], heartbeat))
        answers = self._ask(None)
        for answer in answers:
            if isinstance(answer, Died):
                self.stop()
                raise WorkerError(f"a worker did not start: {answer.reason}")
        return cast(Ready, answers[0])

    def run(self, task: Task) -> list[Record] | Died:
        """The records of rank 0, or how a rank died. After a death the group is stopped; start it again."""
        answers = self._ask(task)
        if deaths := [answer for answer in answers if isinstance(answer, Died)]:
            self.stop()
            return min(deaths, key=lambda death: death.spoke)
        return cast(list[Record], answers[0])

    @property
    def running(self) -> bool:
        """Whether it was started and every process is alive."""
        return bool(self._processes) and all(process.is_alive() for process in self._processes)

    def kill(self) -> None:
        """End the processes from another thread than the one that waits for them, which sees them die."""
        for process in tuple(self._processes):
            process.kill()

    def stop(self) -> None:
        """Kill the processes, whatever they are doing."""
        self.kill()
        for process in self._processes:
            process.join()
        for connection in self._connections:
            connection.close()
        self._processes, self._connections, self._heartbeats = [], [], []
        if self._meeting is not None:
            self._meeting.cleanup()

    def _ask(self, task: Task | None) -> list[object]:
        """Send a task, if any, and wait for a message of every rank; Died stands for those that do not come."""
        for heartbeat in self._heartbeats:
            heartbeat[:] = [NOBODY, time.monotonic()]
        if task is not None:
            for connection in self._connections:
                with suppress(OSError):  # the rank is dead, as waiting for it will tell
                    connection.send(task)
        return [self._receive(rank, task) for rank in range(self.ranks)]

    def _receive(self, rank: int, task: Task | None) -> object:
        """The next message of a rank; Died when it or, before it answers, another rank dies or is silent too long."""
        while not self._connections[rank].poll(POLL_S):
            for number, (process, heartbeat) in enumerate(zip(self._processes, self._heartbeats, strict=True)):
                if not process.is_alive() and not self._connections[number].poll():
                    return self._death(number)
                culprit, silence_s = int(heartbeat[0]), _patience_s(task, int(heartbeat[0]))
                if time.monotonic() - heartbeat[1] > silence_s:
                    return Died(culprit, "timeout", f"no answer{self._named(number)} for {silence_s:g} s")
        try:
            return self._connections[rank].recv()
        except (EOFError, OSError):
            return self._death(rank)

    def _death(self, rank: int) -> Died:
        process = self._processes[rank]
        process.join()
        return Died(
            int(self._heartbeats[rank][0]), "crashed", f"the worker{self._named(rank)} {_ending(process.exitcode)}"
        )

    def _named(self, rank: int) -> str:
        return f" on rank {rank}" if self.ranks > 1 else ""


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


def _end_with_parent() -> None:
    """End this process when its parent has ended: nobody is left to read the records, and others want the device."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def serve(
    rank: int,
    ranks: int,
    device_type: DeviceType,
    kernels: Sequence[str],
    mask: Mask,
    rendezvous: Path,
    connection: Connection,
    heartbeat: MutableSequence[float],
) -> None:
    """A worker's life: set up the device, import the kernels, then answer each task until the pipe closes."""
    mask.apply()
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def announce(culprit: int) -> None:
        heartbeat[:] = [culprit, time.monotonic()]

    # Imported here, so that the process that only waits for records does without torch.
    from .bench import open_bench  # noqa: PLC0415
    from .failure import first_line  # noqa: PLC0415

    try:
        for name in kernels:
            KERNELS.load(name)
        bench = open_bench(rank, ranks, device_type, rendezvous)
        connection.send(Ready(bench.environment, bench.commit))
        while True:
            task: Task = connection.recv()
            connection.send(bench.run(task, announce))
            announce(NOBODY)
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001  # the parent turns it into a record or into its own error
        connection.send(Died(int(heartbeat[0]), "crashed", first_line(error), spoke=True))
