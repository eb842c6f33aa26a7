"""The watch of a sample: nanoseconds by the host's clock, and what disturbed the process meanwhile.

A sample is disturbed when a thread of the process waited for a core for a noticeable part of it *and* other processes
ran on those cores at the time. Neither says it alone: threads of one process may wait for each other, and others may
run where they are in nobody's way. Involuntary context switches are not counted: what they cost is the run delay.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from . import host_clock
from .continued import times_continued
from .core_time import Taken, TakenTime
from .run_delay import RunDelays, longest

DELAYED: Final = 0.05
"""Share of a sample that a thread may wait for a core: half of the 10 % by which a number may be off. Nine of ten quiet
samples stay under 4 %; beside one busy process it is 25 to 50 % (docs/decisions.md)."""

DELAYED_NS: Final = (
    100_000  # waking up a thread on an idle core of a virtual machine takes some 50 µs, with nobody there
)

TAKEN: Final = 0.08
"""Share of one core's time that others may take: two ticks of the system's counts in the window that they are read of,
so that the two readings' rounding is no alarm. One busy process takes at least half a core."""


BUSY: Final = "MOEBENCH_BUSY_MACHINE"
"""Variable that, set to 1, lets samples count whatever others do: for checks of what passes, not of how fast it is.

Records then say that nobody watched."""


class Disturbance(IntEnum):
    """Cause of a disturbed sample; of several the largest is named. Ranks exchange them as numbers."""

    none = 0
    clock = 1
    others = 2
    hypervisor = 3
    stopped = 4

    @property
    def words(self) -> str:
        """The cause in words, as the end of a sentence."""
        return _WORDS[self]


_WORDS: Final = {
    Disturbance.none: "nothing disturbed it",
    Disturbance.clock: "two clocks of the machine disagreed",
    Disturbance.others: "other processes ran on its cores",
    Disturbance.hypervisor: "the hypervisor gave its cores to others",
    Disturbance.stopped: "the process was stopped from outside",
}


@dataclass(frozen=True)
class Span:
    """The time between start and stop of a watch in nanoseconds, and what disturbed it; None where that is not told."""

    ns: int
    disturbed: Disturbance | None


class Watch:
    """Watch of this process; one for each worker. ``ours`` are the processes of the run's other ranks on this machine.

    ``unread`` says why the system does not tell what others take, empty if it does. Start and stop take some 30 µs
    each with two threads and a microsecond for each further one, none of it between the readings of the clock.
    """

    def __init__(self, ours: Collection[int] = ()) -> None:
        self._delays = RunDelays()
        self.taken = TakenTime(ours)
        allowed = f"{BUSY} is set" if os.environ.get(BUSY) == "1" else ""
        self.unread = allowed or self._delays.unread or self.taken.unread
        self._continued = times_continued()
        self._waited: dict[str, int] = {}
        self._start = host_clock.read()

    def count_as_ours(self, processes: Collection[int]) -> None:
        """From now on take these processes for no others."""
        self.taken.count_as_ours(processes)

    def start(self) -> None:
        """Begin a sample."""
        self.taken.update()
        self._delays.refresh()
        self._waited = self._delays.read()
        self._continued = times_continued()
        self._start = host_clock.read()

    def stop(self) -> Span:
        """End the sample."""
        stop = host_clock.read()
        delay_ns = longest(self._waited, self._delays.read())
        self.taken.update()
        ns = stop[0] - self._start[0]
        if times_continued() != self._continued:
            return Span(ns, Disturbance.stopped)
        found = Disturbance.none if self.unread else disturbance(ns, delay_ns, self.taken.lately())
        if found is not Disturbance.none:
            return Span(ns, found)
        if not host_clock.agree(self._start, stop):
            return Span(ns, Disturbance.clock)
        return Span(ns, None if self.unread else Disturbance.none)


def disturbance(ns: float, delay_ns: float, taken: Taken) -> Disturbance:
    """Return what took cores from a sample of ``ns`` in which some thread waited ``delay_ns`` for one."""
    if taken.by_hypervisor >= TAKEN:
        return Disturbance.hypervisor
    delayed = delay_ns >= max(DELAYED_NS, DELAYED * ns)
    return Disturbance.others if delayed and taken.by_others >= TAKEN else Disturbance.none
