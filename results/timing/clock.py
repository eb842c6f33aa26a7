"""Interface of clocks that time a call, and the clock of the CPU (that of NVIDIA devices is in ``cuda_clock.py``).

Protocol of a CPU sample: read a buffer larger than the last-level caches, so that none of the call's data is left in
them; wait until the other ranks have done so; read the counter; call; read the counter; only then free the result. The
garbage collector is off during a sample.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Final, Literal, Protocol

import torch

from ...common.cores import usable_cores
from ..record import CacheState, Clocks
from .nvml import SLOWDOWNS, Telemetry

ClockName = Literal["perf_counter", "cuda_event"]

FLUSH_FACTOR: Final = (
    2  # caches hash addresses and are not perfectly least-recently-used; twice their size replaces all
)
UNKNOWN_CACHE_BYTES: Final = 64 * 2**20  # where the system reports no size: at least the last level of a desktop CPU
ROTATION_FACTOR: Final = 2  # a buffer's turn comes again when twice the cache has passed through it
MAX_COPIES: Final = 64  # what is read of under 1/32 of the cache stays in it; launches bound its call, not the memory
WARM_UPS: Final = 1  # the call was checked before, and by that compiled; this one fills the allocator's pools

_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Sample:
    """Nanoseconds of one call, on average of the ``calls`` that were timed together.

    ``throttled`` is True where the device slowed itself down during the sample; such a sample must be dropped.
    """

    ns: float
    throttled: bool
    calls: int = 1


class Clock(Protocol):
    """Clock that takes samples of a call; ``name`` and ``cache`` go into the record."""

    name: ClockName
    cache: CacheState

    def copies(self, read_bytes: int) -> int:
        """Return how many sets of inputs calls must rotate over, given the bytes of one; 1 where caches are flushed."""

    def prepare(self, calls: Sequence[Callable[[], object]]) -> Callable[[], Sample]:
        """Warm up and return the function that takes one sample, in nanoseconds per call.

        ``calls`` do the same work, each on its own buffers; there are ``copies`` of them. Functions prepared from
        several competitors may be sampled in any order.
        """

    def state(self) -> Clocks | None:
        """Return the device's state, read right after a sample; it belongs to the work sampled last."""


class Flush:
    """Fills the caches with clean lines of a buffer of its own, so that no data of a call is left."""

    def __init__(self, cache_bytes: int, device: str) -> None:
        # Ones, not zeros or empty: pages of a CPU that were never written share one zero page, and reading it evicts
        # nothing.
        self._buffer = torch.ones(FLUSH_FACTOR * cache_bytes // 4, dtype=torch.float32, device=device)

    def __call__(self) -> None:
        # Read, not written: dirty lines would be written back to memory while the clock runs.
        self._buffer.sum()


class CpuClock:
    """``perf_counter_ns`` around one call whose inputs are in no cache; ``together`` waits for the other ranks."""

    name: ClockName = "perf_counter"
    cache: CacheState = "cold"

    def __init__(self, together: Callable[[], object] = lambda: None) -> None:
        self._together = together
        self.flush = Flush(last_level_cache_bytes(), "cpu")

    def copies(self, read_bytes: int) -> int:
        return 1

    def prepare(self, calls: Sequence[Callable[[], object]]) -> Callable[[], Sample]:
        for call in calls:
            for _ in range(WARM_UPS):
                call()
        turns = cycle(calls)

        def sample() -> Sample:
            call = next(turns)
            with no_garbage_collection():
                self.flush()
                self._together()  # ranks that share cores are not done with it at the same time
                start = time.perf_counter_ns()
                result = call()
                stop = time.perf_counter_ns()
            del result
            return Sample(ns=float(stop - start), throttled=False)

        return sample

    def state(self) -> None:
        return None


def rotation(cache_bytes: int, read_bytes: int) -> int:
    """Return how many sets of inputs calls rotate over, so that none finds its set, of ``read_bytes``, in a cache."""
    wanted = math.ceil(ROTATION_FACTOR * cache_bytes / read_bytes) if read_bytes else 1
    return min(max(wanted, 1), MAX_COPIES)


def throttled(telemetry: Telemetry | None) -> bool:
    """Return whether the device reports a slowdown, which makes a sample unfit; False without telemetry."""
    return telemetry is not None and not SLOWDOWNS.isdisjoint(telemetry.throttle_reasons())


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Switch the garbage collector off in the block, and restore its state afterwards."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def last_level_cache_bytes(cpus: Path = _CPUS) -> int:
    """Return the total bytes of the usable cores' last-level caches; a cache that cores share counts once."""
    sizes: dict[tuple[int, str], int] = {}
    for core in usable_cores():
        for cache in (cpus / f"cpu{core}" / "cache").glob("index*"):
            level, shared_by, kind, size = (
                (cache / name).read_text().strip() for name in ("level", "shared_cpu_list", "type", "size")
            )
            if kind != "Instruction":
                sizes[int(level), shared_by] = int(size.removesuffix("K")) * 1024
    last = max((level for level, _ in sizes), default=0)
    return sum(size for (level, _), size in sizes.items() if level == last) or UNKNOWN_CACHE_BYTES
