"""The cores that this process may use. Imports no torch: with it comes OpenMP, which may bind a thread to one."""

from __future__ import annotations

import os
import sys
from functools import cache


@cache
def usable_cores() -> tuple[int, ...]:
    """Numbers of the cores, as they were when somebody first asked."""
    return tuple(sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else range(os.cpu_count() or 1))
