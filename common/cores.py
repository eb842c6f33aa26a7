"""Cores that this process may use. Asked before torch is imported, whose OpenMP may bind a thread to one core."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@cache
def usable_cores() -> tuple[int, ...]:
    """Return the numbers of the usable cores, as they were at the first call in this process."""
    return tuple(sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else range(os.cpu_count() or 1))


def roam() -> None:
    """Let this thread run on every usable core, though OpenMP has bound the thread that started it to one."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, usable_cores())


@contextmanager
def roaming() -> Iterator[None]:
    """Let the threads and processes that start in the block run on every usable core; this thread is bound after it."""
    if sys.platform != "linux":
        yield
        return
    bound = os.sched_getaffinity(0)
    roam()
    try:
        yield
    finally:
        os.sched_setaffinity(0, bound)
