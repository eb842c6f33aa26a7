"""The clock of a serving loop: wall time of calls that Python makes one after the other.

It contains the host's part. Below a few tokens a GPU is done with a call before Python has launched the next one, which
neither a cold nor a hot time shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Final

from ..record import CacheState, Clocks
from .clock import WARM_UPS, ClockName, Ended, Sample, keep_nothing, no_garbage_collection, rotation, throttled
from .disturbance import Span, Watch
from .nvml import Telemetry

SAMPLE_NS: Final = 50e6  # of calls between two readings, so that the first launch and the final wait are negligible


class EagerClock:
    """Nanoseconds of the host's clock for one of many calls in a row, on a CPU or a device.

    Protocol: wait for the device; start the watch; calls, each result dropped before the next call, as in a model;
    wait; stop the watch; divide by the calls. The calls go round sets of inputs that ``cache_bytes`` do not hold,
    since in a model the other layers run in between. ``telemetry`` is None on a CPU, which has none. ``slowest`` is the
    largest value of all ranks, so that all ranks make the same number of calls.
    """

    name: ClockName = "perf_counter"
    cache: CacheState = "eager"

    def __init__(
        self,
        cache_bytes: int,
        telemetry: Telemetry | None,
        *,
        wait: Callable[[], object],
        slowest: Callable[[float], float],
        watch: Watch | None = None,
    ) -> None:
        self._cache_bytes = cache_bytes
        self._telemetry = telemetry
        self._wait = wait
        self._slowest = slowest
        self._watch = watch or Watch()

    def copies(self, read_bytes: int) -> int:
        return rotation(self._cache_bytes, read_bytes)

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        turns = cycle(calls)

        def span(times: int) -> Span:
            with no_garbage_collection():
                self._wait()
                self._watch.start()
                for call in islice(turns, times - 1):
                    call()
                result = next(turns)()
                self._wait()
                taken = self._watch.stop()
                ended(result)
            return taken

        span(WARM_UPS * len(calls))
        times = len(calls)
        while (ns := self._slowest(max(span(times).ns, 1))) < SAMPLE_NS / 2:  # the wait is part of a short one
            times = len(calls) * math.ceil(times / len(calls) * SAMPLE_NS / ns)

        def sample() -> Sample:
            taken = span(times)
            return Sample(
                ns=taken.ns / times, throttled=throttled(self._telemetry), calls=times, disturbed=taken.disturbed
            )

        return sample

    def state(self) -> Clocks | None:
        return self._telemetry.state(energy_j=None) if self._telemetry else None
