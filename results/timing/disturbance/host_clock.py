"""The host's clock, and a second one that must agree with it.

Both functions are bound when this module is imported, which is before any implementation is: one that replaces
`time.perf_counter_ns` does not change a number, and `replaced` finds it out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

DISAGREEMENT: Final = 0.005  # ten times as much as the system may slew its clock by to follow a time server
DISAGREEMENT_NS: Final = 50_000  # a process may lose its core between the readings of the two clocks

_OWN: Final[dict[str, Callable[..., object]]] = {
    name: getattr(time, name)
    for name in ("perf_counter_ns", "perf_counter", "monotonic_ns", "monotonic", "clock_gettime_ns", "process_time_ns")
    if hasattr(time, name)
}
_first: Callable[[], int] = time.perf_counter_ns
_gettime: Final = getattr(time, "clock_gettime_ns", None)
_RAW: Final = getattr(time, "CLOCK_MONOTONIC_RAW", None)


def _unslewed() -> int:
    """Return the clock that no time server corrects; where the system has none, the first clock."""
    return _first() if _gettime is None or _RAW is None else int(_gettime(_RAW))


_second: Callable[[], int] = _unslewed


def read() -> tuple[int, int]:
    """Return nanoseconds by both clocks."""
    return _first(), _second()


def agree(start: tuple[int, int], stop: tuple[int, int]) -> bool:
    """Return whether both clocks went forward, by the same time between two readings."""
    one, other = stop[0] - start[0], stop[1] - start[1]
    return min(one, other) >= 0 and abs(one - other) <= DISAGREEMENT_NS + DISAGREEMENT * max(one, other)


def replaced() -> str | None:
    """Return which clock of the module `time` is no longer Python's own, in words, or None."""
    for name, own in _OWN.items():
        if (now := getattr(time, name, None)) is not own:
            where = f"{getattr(now, '__module__', '?')}.{getattr(now, '__qualname__', type(now).__name__)}"
            return f"time.{name} was replaced by {where}"
    return None


def restore() -> None:
    """Give the module `time` its own clocks back."""
    for name, own in _OWN.items():
        setattr(time, name, own)
