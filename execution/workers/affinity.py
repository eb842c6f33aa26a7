"""What of a machine a worker may use, put on before anything that counts devices or cores is imported."""

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
    """Put on by the worker itself; its parent keeps what it has."""

    def apply(self, neighbours: int) -> None:
        """Leave this process, and those it starts, only what the mask leaves to that many ranks."""


@dataclass(frozen=True)
class AllDevices:
    """Everything that the parent may use."""

    def apply(self, neighbours: int) -> None:
        return


@dataclass(frozen=True)
class OneGpu:
    """One GPU, which becomes device 0: by the number, UUID or MIG name that CUDA_VISIBLE_DEVICES knows it by."""

    name: str

    def apply(self, neighbours: int) -> None:
        os.environ["CUDA_VISIBLE_DEVICES"] = self.name


@dataclass(frozen=True)
class Cores:
    """One of ``shares`` equal shares of the cores that the process may use; needs Linux."""

    number: int
    shares: int

    def apply(self, neighbours: int) -> None:
        os.sched_setaffinity(0, share(sorted(os.sched_getaffinity(0)), self.number, self.shares))


@dataclass(frozen=True)
class PinnedThreads:
    """Everything, for a process that takes turns with another one: its threads know their places and make way.

    Where threads of OpenMP may move, one that slept often wakes up on a core that already has one; where they wait for
    work as long as usual, a dozen milliseconds, they take the time of the other's turn.
    """

    def apply(self, neighbours: int) -> None:
        if neighbours == 1:  # else all ranks would be bound to the same cores
            usable_cores()  # asked before OpenMP binds this thread to one of them
            os.environ["OMP_PROC_BIND"] = "true"
            os.environ["GOMP_SPINCOUNT"] = SPINS


WHOLE = AllDevices()


def share(cores: Sequence[int], number: int, shares: int, topology: Path = _TOPOLOGY) -> list[int]:
    """The cores of one share; shares are disjoint and equal in number, hyperthreads of one core stay together."""
    together = sorted(cores, key=lambda core: (_first_thread(core, topology), core))
    size = len(together) // shares
    return sorted(together[number * size : (number + 1) * size])


def _first_thread(core: int, topology: Path) -> int:
    """The lowest of the numbers that the hyperthreads of a core's silicon have."""
    threads = topology / f"cpu{core}" / "topology" / "thread_siblings_list"
    return int(threads.read_text().replace("-", ",").partition(",")[0]) if threads.exists() else core
