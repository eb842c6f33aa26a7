"""Workers that are processes of this machine."""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
import time
from collections.abc import Iterator, MutableSequence, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ...common.cores import roaming
from ...kernels.signals import uninterrupted
from ..trial.task import NOBODY, Task
from .affinity import ALL_DEVICES, Affinity
from .rendezvous import FileRendezvous, RankInfo, Rendezvous
from .worker import STARTUP_S, Answer, DeviceType, Died, Worker
from .worker_process import serve

HARNESS_S = 900.0  # the float64 reference of a released model's full shape takes minutes on a CPU


class LocalWorker:
    """A process of this machine that holds the rank of ``info``; ``kernels`` are what it imports when it starts."""

    def __init__(
        self,
        info: RankInfo,
        rendezvous: Rendezvous,
        device_type: DeviceType,
        kernels: Sequence[str],
        affinity: Affinity = ALL_DEVICES,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._info = info
        self._task: Task | None = None
        self._connection, self._child_connection = context.Pipe()
        # The competitor whose code runs, the time since when, and the collectives that the rank has joined.
        self._heartbeat = cast(MutableSequence[float], context.Array("d", 3, lock=False))
        self._process = context.Process(
            target=serve,
            args=(info, rendezvous, device_type, tuple(kernels), affinity, self._child_connection, self._heartbeat),
            name=f"moebench-rank-{info.rank}",
            daemon=True,
        )

    def start(self) -> None:
        """Start the process; its first message says that it is ready."""
        self._heartbeat[:2] = [NOBODY, time.monotonic()]
        with uninterrupted(), roaming():
            self._process.start()
        self._child_connection.close()

    @property
    def pid(self) -> int:
        """Process id, 0 before the start."""
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
        with suppress(OSError):  # it is dead, which `receive` reports
            self._connection.send(task)

    def receive(self, wait_s: float) -> Answer | None:
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
            return Died(int(culprit), "timeout", f"no answer{_on(self._info)} for {limit_s:g} s", joined=int(joined))
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
        self._child_connection.close()

    def _death(self) -> Died:
        self._process.join()
        reason = f"the worker{_on(self._info)} {_ending(self._process.exitcode)}"
        return Died(int(self._heartbeat[0]), "crashed", reason, seen=True)


@dataclass(frozen=True)
class LocalWorkers:
    """Provider of workers on this machine, restricted to the cores and GPUs of ``affinity``."""

    affinity: Affinity = ALL_DEVICES

    @property
    def most_ranks(self) -> None:
        return None

    @contextmanager
    def workers(self, ranks: int, device_type: DeviceType, kernels: Sequence[str]) -> Iterator[Sequence[Worker]]:
        with tempfile.TemporaryDirectory(prefix="moebench-") as folder, ExitStack() as started:
            rendezvous = FileRendezvous(Path(folder) / "rendezvous")
            workers = []
            for rank in range(ranks):
                info = RankInfo(rank=rank, ranks=ranks, local_rank=rank, local_ranks=ranks)
                worker = LocalWorker(info, rendezvous, device_type, kernels, self.affinity)
                started.callback(worker.stop)
                worker.start()
                workers.append(worker)
            yield workers


LOCAL_WORKERS = LocalWorkers()


def _on(info: RankInfo) -> str:
    return f" on rank {info.rank}" if info.ranks > 1 else ""


def _patience_s(task: Task | None, culprit: int) -> float:
    """Return the seconds that a worker may be silent: at its start, in a competitor's code, and in its own code."""
    if task is None:
        return STARTUP_S
    return max(HARNESS_S, task.budget.timeout_s) if culprit == NOBODY else task.budget.timeout_s


def _ending(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit code {exitcode}"
