"""Turns of two runs that measure at the same time: while one takes a sample, the other waits.

What slows a machine down for a second or a minute then slows both alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MEET_S: Final = 60.0  # at most, between the arrivals of two runs started together at their first point
MEET_POLL_S: Final = 0.01
HERE: Final = ".here"  # ends the name of the file in which a run that has come says its processes
SETTLE_S: Final = 0.002  # until the threads of the sample sleep, see `affinity.SPINS`


@dataclass(frozen=True)
class Turns:
    """Turns with a partner: ``pass_on`` gives the turn away and waits until it is back.

    ``partners`` are the processes that the turn alternates with: while one has its turn, the other only waits.
    """

    pass_on: Callable[[], None] = lambda: None
    partners: frozenset[int] = frozenset()


@contextmanager
def interleave(folder: Path | None, processes: Collection[int]) -> Iterator[Turns]:
    """Meet the other run that names the folder, and take the turn; ``processes`` are those of this run.

    A run whose partner has nothing to do, or has died, goes on at once. Without a folder nothing waits.
    """
    if folder is None:
        yield Turns()
        return
    import fcntl  # noqa: PLC0415  # not on Windows, where nothing else is missing

    partners = _meet(folder, processes)
    # A process that waits for the turn holds the queue, so that the one that passed the turn on cannot take it again
    # first. The system releases the locks of a process that dies.
    with (folder / "queue").open("w") as queue, (folder / "turn").open("w") as turn:

        def take() -> None:
            fcntl.flock(queue, fcntl.LOCK_EX)
            fcntl.flock(turn, fcntl.LOCK_EX)
            fcntl.flock(queue, fcntl.LOCK_UN)

        def pass_on() -> None:
            time.sleep(SETTLE_S)
            fcntl.flock(turn, fcntl.LOCK_UN)
            take()

        take()
        yield Turns(pass_on, partners)


def _meet(folder: Path, processes: Collection[int]) -> frozenset[int]:
    """Wait for a second run to come, unless it has been here; return the processes of all others that came."""
    mine = folder / f"{os.getpid()}{HERE}"
    coming = mine.with_suffix(".coming")
    coming.write_text(" ".join(map(str, processes)))
    coming.replace(mine)  # whole when it is seen
    deadline = time.monotonic() + MEET_S
    while len(here := set(folder.glob(f"*{HERE}"))) < 2 and time.monotonic() < deadline:
        time.sleep(MEET_POLL_S)
    return frozenset(int(process) for other in here - {mine} for process in other.read_text().split())
