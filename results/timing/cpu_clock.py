"""Clock of the CPU.

Protocol of a sample: read a buffer larger than the last-level caches, so that none of the call's data is left in them;
wait until the other ranks have done so; start the watch; call; stop the watch; only then free the result. The garbage
collector is off during a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

from ..record import CacheState
from .clock import WARM_UPS, ClockName, Ended, Flush, Sample, keep_nothing, no_garbage_collection
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
        self.flush = Flush(last_level_cache_bytes(), "cpu")

    def copies(self, read_bytes: int) -> int:
        return 1

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        for call in calls:
            for _ in range(WARM_UPS):
                call()
        turns = cycle(calls)

        def sample() -> Sample:
            call = next(turns)
            with no_garbage_collection():
                self.flush()
                self._together()  # ranks that share cores are not done with it at the same time
                self._watch.start()
                result = call()
                span = self._watch.stop()
                ended(result)
            del result
            return Sample(ns=float(span.ns), throttled=False, disturbed=span.disturbed)

        return sample

    def state(self) -> None:
        return None
