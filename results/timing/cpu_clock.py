"""Clocks of the CPU: the caches are flushed before each call, or the calls rotate over more memory than they hold.

Protocol of a sample: make the caches cold; wait until the other ranks have done so; start the watch; call; stop the
watch; only then free the result. The garbage collector is off during a sample. Nothing is warmed up: the call that was
checked before has done what only a first call does, and the caches are to be cold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle

from ..record import CacheState, Cold
from .clock import CallBytes, Clock, ClockName, Ended, Flush, Sample, keep_nothing, no_garbage_collection
from .cold.cold_plan import ColdPlan, cold_plan
from .cold.workspaces import Workspaces
from .cpu_cache import last_level_cache_bytes
from .disturbance import Watch


class CpuClock:
    """``perf_counter_ns`` around one call whose inputs are in no cache.

    ``together`` waits for the other ranks; ``watch`` reads the time and says what disturbed the call.
    """

    name: ClockName = "perf_counter"
    cache: CacheState = "cold"

    def __init__(self, together: Callable[[], object] = lambda: None, watch: Watch | None = None) -> None:
        self._together = together
        self._watch = watch or Watch()
        self._cache_bytes = last_level_cache_bytes()
        self.flush = Flush(self._cache_bytes, "cpu")

    def copies(self, read_bytes: int) -> int:
        return 1

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        turns = cycle(calls)

        def sample() -> Sample:
            call = next(turns)
            with no_garbage_collection():
                self.flush()
                return self.timed(call, ended)

        return sample

    def timed(self, call: Callable[[], object], ended: Ended) -> Sample:
        """Return a sample of a call for which the caches are ready."""
        self._together()  # ranks that share cores are not done with it at the same time
        self._watch.start()
        result = call()
        span = self._watch.stop()
        ended(result)
        del result
        return Sample(ns=float(span.ns), throttled=False, disturbed=span.disturbed)

    def state(self) -> None:
        return None

    def fitted(self, footprint: CallBytes) -> CpuClock | RotatingCpuClock:
        """Return the clock for calls with a footprint that makes the caches cold in the cheapest way."""
        plan = cold_plan(self._cache_bytes, footprint)
        if plan.sets == 1 or (workspaces := Workspaces.of(plan.sets, footprint.workspace_bytes)) is None:
            return self
        return RotatingCpuClock(self, plan, workspaces)


class RotatingCpuClock:
    """`CpuClock` for calls that rotate over sets of inputs, and over memory for what they allocate.

    Competitors whose calls are prepared by the same clock take the sets in one turn, so that none finds in a cache what
    the one before it has read. ``turn`` is the set of the next call.
    """

    name: ClockName = "perf_counter"
    cache: CacheState = "cold"

    def __init__(self, clock: CpuClock, plan: ColdPlan, workspaces: Workspaces) -> None:
        self._clock = clock
        self._plan = plan
        self._workspaces = workspaces
        self.turn = 0

    def copies(self, read_bytes: int) -> int:
        return self._plan.sets

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        def sample() -> Sample:
            call = calls[self.turn]
            self.turn = (self.turn + 1) % self._plan.sets
            with no_garbage_collection():
                self._clock.flush.part(self._plan.flush_bytes)
                with self._workspace():
                    return self._clock.timed(call, ended)

        return sample

    @contextmanager
    def _workspace(self) -> Iterator[None]:
        self._workspaces.open()
        try:
            yield
        finally:
            self._workspaces.close()

    def state(self) -> None:
        return None


def fitted(clock: Clock, footprint: CallBytes) -> Clock:
    """Return the clock for calls with a footprint; a clock that has no choice is that clock."""
    return clock.fitted(footprint) if isinstance(clock, CpuClock) else clock


def next_set(clock: Clock) -> int | None:
    """Return which set of inputs the next sample is a call on, None where it may be any or several."""
    return clock.turn if isinstance(clock, RotatingCpuClock) else None


def how_cold(clock: Clock) -> Cold | None:
    """Return how a clock makes caches cold, None if it does not."""
    if clock.cache != "cold":
        return None
    return "rotated" if isinstance(clock, RotatingCpuClock) else "flushed"
