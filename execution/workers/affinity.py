"""CPU and GPU affinity of a worker. Applied before torch is imported, because torch and OpenMP read it once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...common.cores import usable_cores

SPINS = "10000"  # half a millisecond
_TOPOLOGY = Path("/sys/devices/system/cpu")


class Affinity(Protocol):
    """A restriction that a worker applies to itself; its parent process keeps all its devices and cores."""

    def apply(self, local_ranks: int) -> None:
        """Restrict this process, and those it starts, when ``local_ranks`` workers share the restriction."""


@dataclass(frozen=True)
class AllDevices:
    """No restriction: everything that the parent may use."""

    def apply(self, local_ranks: int) -> None:
        return


@dataclass(frozen=True)
class Gpus:
    """Some GPUs, which become devices 0, 1, …; each by the number, UUID or MIG name of CUDA_VISIBLE_DEVICES."""

    names: tuple[str, ...]

    def apply(self, local_ranks: int) -> None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.names)


@dataclass(frozen=True)
class Cores:
    """Share ``number`` of ``shares`` equal shares of the cores that the process may use; needs Linux."""

    number: int
    shares: int

    def apply(self, local_ranks: int) -> None:
        os.sched_setaffinity(0, share(sorted(os.sched_getaffinity(0)), self.number, self.shares))


@dataclass(frozen=True)
class PinnedThreads:
    """All devices, for a process that is interleaved with another one: its OpenMP threads are pinned and wait briefly.

    An OpenMP thread that may move and sleeps often wakes up on a core that already has another thread. Threads that
    wait for work as long as usual, a dozen milliseconds, take time from the sample of the other process.
    """

    def apply(self, local_ranks: int) -> None:
        if local_ranks == 1:  # else all ranks would be pinned to the same cores
            usable_cores()  # counted before OpenMP pins this thread to one of them
            os.environ["OMP_PROC_BIND"] = "true"
            os.environ["GOMP_SPINCOUNT"] = SPINS


ALL_DEVICES = AllDevices()


def share(cores: Sequence[int], number: int, shares: int, topology: Path = _TOPOLOGY) -> list[int]:
    """Return the cores of one share; shares are disjoint and equal in number, hyperthreads of one core stay together.

    ``topology`` is the folder in which Linux describes the cores.
    """
    together = sorted(cores, key=lambda core: (_first_thread(core, topology), core))
    size = len(together) // shares
    return sorted(together[number * size : (number + 1) * size])


def _first_thread(core: int, topology: Path) -> int:
    """Return the lowest number among the hyperthreads of one physical core."""
    threads = topology / f"cpu{core}" / "topology" / "thread_siblings_list"
    return int(threads.read_text().replace("-", ",").partition(",")[0]) if threads.exists() else core
