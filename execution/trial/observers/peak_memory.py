"""Observer of the memory of one call: its peak, and what it keeps for its backward."""

from __future__ import annotations

from ....kernels.oracle import Result
from ....results.record import Memory
from ....results.timing.memory import count_saved, peak
from .observer import ObservedCall, Take


class MemoryObserver:
    """Measures the bytes of the first call. The weights do not count as kept."""

    field = "memory"

    def observe(self, observed: ObservedCall, take: Take) -> tuple[Result, Memory]:
        with count_saved(without=tuple(observed.inputs.weights.named().values())) as saved:
            result, peak_bytes = peak(take, observed.device)
        return result, Memory(peak=peak_bytes, saved=saved.bytes)
