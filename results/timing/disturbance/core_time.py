"""Time that others and the hypervisor take of the cores of this process, by the counts of /proc/stat."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ....common.cores import usable_cores

TICK_NS: Final = 1e9 / os.sysconf("SC_CLK_TCK")  # the counts' unit
WINDOW_NS: Final = 250e6  # the counts are off by one tick, 10 ms: 4 % of a core in this time
REREAD_NS: Final = 25e6  # reading takes up to a millisecond on a machine of hundreds of cores

_STAT = Path("/proc/stat")
_PROCESS_CLOCK: Final = 2  # of the clocks that Linux makes for a process: the time that its threads ran


@dataclass(frozen=True)
class CoreTime:
    """Nanoseconds of the usable cores since the machine started, at ``at_ns`` of the host's clock.

    They ran processes for ``busy``, of which ``ours`` were this process and those that belong to it; ``stolen`` is
    what the hypervisor kept for others.
    """

    at_ns: int
    busy: float
    ours: float
    stolen: float


@dataclass(frozen=True)
class Taken:
    """Time taken of the usable cores, as shares of the time of one core."""

    by_others: float = 0.0
    by_hypervisor: float = 0.0


class TakenTime:
    """Reader of time lately taken, by readings at least ``WINDOW_NS`` apart. ``ours`` are no others."""

    def __init__(
        self,
        ours: Collection[int] = (),
        *,
        now_ns: Callable[[], int] = time.perf_counter_ns,
        stat: Path = _STAT,
        cores: Sequence[int] | None = None,
    ) -> None:
        self._began: dict[int, int] = {}
        self._ran: dict[int, int] = {}
        self.count_as_ours(ours)
        self._now_ns = now_ns
        self._cores = frozenset(f"cpu{core}".encode() for core in (usable_cores() if cores is None else cores))
        self._readings: deque[CoreTime] = deque(maxlen=64)
        self.unread = ""
        try:
            self._stat = os.open(stat, os.O_RDONLY)
            self._readings.append(self._read())
        except OSError as error:
            self.unread = f"{error.strerror}: {stat}"
        else:
            if not self._readings[0].busy:
                self.unread = f"{stat} counts nothing"

    def count_as_ours(self, processes: Collection[int]) -> None:
        """From now on take no time of these processes for the time of others."""
        for process in set(processes) - self._began.keys() - {os.getpid()}:
            self._began[process] = _ran_ns(process)
            self._ran[process] = 0

    def update(self) -> None:
        """Read the counts, unless they were read just now."""
        if not self.unread and self._now_ns() - self._readings[-1].at_ns >= REREAD_NS:
            self._readings.append(self._read())

    def lately(self) -> Taken:
        """Return what was taken in the last ``WINDOW_NS`` or somewhat more."""
        if self.unread:
            return Taken()
        last = self._readings[-1]
        first = next((one for one in reversed(self._readings) if last.at_ns - one.at_ns >= WINDOW_NS), None)
        if first is None:
            return Taken()
        elapsed = last.at_ns - first.at_ns
        others = (last.busy - first.busy) - (last.ours - first.ours)
        return Taken(max(0.0, others) / elapsed, (last.stolen - first.stolen) / elapsed)

    def _read(self) -> CoreTime:
        busy = stolen = 0
        for line in os.pread(self._stat, 1 << 16, 0).splitlines():
            name, *counts = line.split()[:9]
            if name in self._cores and len(counts) == 8:
                user, nice, system, _, _, irq, softirq, steal = map(int, counts)
                busy += user + nice + system + irq + softirq
                stolen += steal
        for process, began in self._began.items():  # one that has ended keeps the time that it ran
            self._ran[process] = max(self._ran[process], _ran_ns(process) - began)
        ours = time.process_time_ns() + sum(self._ran.values())
        return CoreTime(self._now_ns(), busy * TICK_NS, ours, stolen * TICK_NS)

    def __del__(self) -> None:
        if hasattr(self, "_stat"):
            os.close(self._stat)


def _ran_ns(pid: int) -> int:
    """Return the nanoseconds that the threads of a process ran, 0 if it has ended."""
    try:
        return time.clock_gettime_ns((~pid << 3) | _PROCESS_CLOCK)
    except OSError:
        return 0
