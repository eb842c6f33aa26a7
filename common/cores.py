"""Cores that this process may use. Asked before torch is imported, whose OpenMP may bind a thread to one core."""

from __future__ import annotations

import os
import sys
from functools import cache


@cache
def usable_cores() -> tuple[int, ...]:
    """Return the numbers of the usable cores, as they were at the first call in this process."""
    return tuple(sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else range(os.cpu_count() or 1))
