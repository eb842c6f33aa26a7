"""CPU and GPU affinity of a worker and its threads. Set before torch is imported: torch and OpenMP read it once.

On a CPU each OpenMP thread is bound to a core and waits only briefly without sleeping; both are chosen by measurement
(docs/decisions.md). A thread that waits for the others of its process spins, so that it starts its next part at once;
beside a process that needs the core, a long spin takes time from the very thread that it waits for. A thread that
sleeps and may move often wakes up on a core that already has another one.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ...common.cores import usable_cores

SPINS: Final = "10000"  # half a millisecond: longer than the pauses inside of a call, much shorter than a time slice

_BINDING: Final = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
_WAITING: Final = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
_TOPOLOGY: Final = Path("/sys/devices/system/cpu")


class Affinity(Protocol):
    """A restriction that a worker applies to itself; its parent process keeps all its devices and cores."""

    @property
    def exclusive(self) -> bool:
        """True if no other process may use the devices."""

    def apply(self) -> None:
        """Restrict this process, and those it starts."""


@dataclass(frozen=True)
class AllDevices:
    """No restriction: everything that the parent may use."""

    exclusive = True

    def apply(self) -> None:
        return


@dataclass(frozen=True)
class Gpus:
    """Some GPUs, which become devices 0, 1, …; each by the number, UUID or MIG name of CUDA_VISIBLE_DEVICES."""

    names: tuple[str, ...]
    exclusive = True

    def apply(self) -> None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.names)


@dataclass(frozen=True)
class Cores:
    """Share ``number`` of ``shares`` equal shares of the cores that the process may use; needs Linux."""

    number: int
    shares: int
    exclusive = True

    def apply(self) -> None:
        os.sched_setaffinity(0, share(sorted(os.sched_getaffinity(0)), self.number, self.shares))


@dataclass(frozen=True)
class SharedDevices:
    """No restriction, for a process that is interleaved with another one on the same devices."""

    exclusive = False

    def apply(self) -> None:
        return


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


def wait_briefly() -> None:
    """Bound how long threads of torch spin in this process and in those it starts; torch must not be imported yet."""
    _unless_set(os.environ, _WAITING, "GOMP_SPINCOUNT", SPINS)


def prepare_threads(local_rank: int, local_ranks: int) -> None:
    """Prepare this process for the OpenMP of torch, which must not be imported yet.

    Ranks of one machine get disjoint shares of the usable cores, where there are enough. Variables of OpenMP that are
    set already stay as they are, and so does what they decide.
    """
    cores = usable_cores()  # counted before this thread is bound to one of them
    wait_briefly()
    if local_ranks > len(cores) or not hasattr(os, "sched_setaffinity"):
        return
    if local_ranks > 1:
        os.sched_setaffinity(0, share(cores, local_rank, local_ranks))
    _unless_set(os.environ, _BINDING, "OMP_PROC_BIND", "true")


def _unless_set(variables: MutableMapping[str, str], deciding: tuple[str, ...], name: str, value: str) -> None:
    if not any(other in variables for other in deciding):
        variables[name] = value
