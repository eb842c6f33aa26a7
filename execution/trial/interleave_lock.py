"""Turns of two runs that measure at the same time: while one takes a sample, the other waits.

What slows a machine down for a second or a minute then slows both alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MEET_S: Final = 60.0  # at most, between the arrivals of two runs started together at their first point
MEET_POLL_S: Final = 0.01
SETTLE_S: Final = 0.002  # until the threads of the sample sleep, see `affinity.SPINS`


@contextmanager
def interleave(folder: Path | None) -> Iterator[Callable[[], None]]:
    """Meet the other process that names the folder, and take the turn.

    The function that is yielded passes the turn on and waits until it is back, so that the two processes alternate. A
    process whose partner has nothing to do, or has died, goes on at once. Without a folder nothing waits.
    """
    if folder is None:
        yield lambda: None
        return
    import fcntl  # noqa: PLC0415  # not on Windows, where nothing else is missing

    _meet(folder)
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
        yield pass_on


def _meet(folder: Path) -> None:
    """Wait for a second process to come, unless it has been here."""
    (folder / f"{os.getpid()}.here").touch()
    deadline = time.monotonic() + MEET_S
    while len(list(folder.glob("*.here"))) < 2 and time.monotonic() < deadline:
        time.sleep(MEET_POLL_S)
