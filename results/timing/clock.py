"""Interface of clocks that time a call, and what they share. Each clock has a module of its own beside this one."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import torch

from ..record import CacheState, Clocks
from .disturbance import Disturbance
from .nvml import SLOWDOWNS, Telemetry

ClockName = Literal["perf_counter", "cuda_event"]

FLUSH_FACTOR: Final = (
    2  # caches hash addresses and are not perfectly least-recently-used; twice their size replaces all
)
ROTATION_FACTOR: Final = 2  # a buffer's turn comes again when twice the cache has passed through it
MAX_COPIES: Final = 64  # what is read of under 1/32 of the cache stays in it; launches bound its call, not the memory
WARM_UPS: Final = 1  # the call was checked before, and by that compiled; this one fills the allocator's pools


Ended = Callable[[object], None]


def keep_nothing(result: object) -> None:
    """Take the result of a timed call, and drop it."""


@dataclass(frozen=True)
class Sample:
    """Nanoseconds of one call, on average of the ``calls`` that were timed together.

    ``throttled`` is True where the device slowed itself down during the sample. ``disturbed`` says what disturbed the
    host, None where the clock is the device's or the system does not tell. Only a valid sample, with neither, counts.
    """

    ns: float
    throttled: bool
    calls: int = 1
    disturbed: Disturbance | None = None

    @property
    def valid(self) -> bool:
        return not self.throttled and not self.disturbed


@dataclass(frozen=True, kw_only=True)
class CallBytes:
    """Bytes of calls that are to be timed, and how many samples of all competitors are taken at least.

    A call reads ``read_bytes`` of a set of inputs, which takes ``held_bytes``, and allocates ``workspace_bytes`` at its
    peak; ``available_bytes`` can still be allocated.
    """

    read_bytes: int
    held_bytes: int
    workspace_bytes: int
    available_bytes: int
    samples: int


class Clock(Protocol):
    """Clock that takes samples of a call; ``name`` and ``cache`` go into the record."""

    name: ClockName
    cache: CacheState

    def copies(self, read_bytes: int) -> int:
        """Return how many sets of inputs calls must rotate over, given the bytes of one; 1 where caches are flushed."""

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        """Return the function that takes one sample, in nanoseconds per call; warm up what is still cold.

        Each implementation has been called before. ``calls`` do the same work, each on its own buffers; there are
        ``copies`` of them. Functions prepared from several competitors may be sampled in any order. ``ended`` receives
        the result of a sample's last call when the clock has been read, before anything waits for the device.
        """

    def state(self) -> Clocks | None:
        """Return the device's state, read right after a sample; it belongs to the work sampled last."""


class Flush:
    """Fills the caches with clean lines of a buffer of its own, so that no data of a call is left."""

    def __init__(self, cache_bytes: int, device: str) -> None:
        # Ones, not zeros or empty: pages of a CPU that were never written share one zero page, and reading it evicts
        # nothing.
        self._buffer = torch.ones(FLUSH_FACTOR * cache_bytes // 4, dtype=torch.float32, device=device)
        self._start = 0

    def __call__(self) -> None:
        # Read, not written: dirty lines would be written back to memory while the clock runs.
        self._buffer.sum()

    def part(self, size: int) -> None:
        """Read the next ``size`` bytes of the buffer, which begins again when it ends."""
        words = size // self._buffer.element_size()
        if self._start + words > len(self._buffer):
            self._start = 0
        self._buffer[self._start : self._start + words].sum()
        self._start += words


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
