"""Cost model of a CPU: loops of similar torch operations that share its cores and its memory.

The constants were fitted on two cores of a Zen 5 (AVX-512 with products of bfloat16, 1 MiB of L2 a core, 32 MiB of L3)
with torch 2.13, each from timings of the one operation it speaks of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..steps import Rates

# Elements below which torch leaves a pointwise operation to one thread: at::internal::GRAIN_SIZE.
GRAIN = 32768
# A part of the cores fills the memory bus: one of two copied at 0.6 to 0.65 of the rate of both.
SATURATION = 1.25


@dataclass(frozen=True, kw_only=True)
class Operations:
    """A step of ``calls`` operations, one after another, on ``threads`` of the ``cores`` whose rates were measured.

    ``flops`` are those of products, which reach ``speed`` times the measured rate of the fastest dense ones; ``bytes``
    pass through memory or the last-level cache. The two times are added: a product packs its operand before it
    multiplies.
    """

    name: str
    calls: int
    threads: int
    cores: int
    flops: float = 0
    speed: float = 1
    bytes: float = 0

    @property
    def moved_bytes(self) -> float:
        """See `Step.moved_bytes`; bytes that stay in the last-level cache are included."""
        return self.bytes

    def seconds(self, rates: Rates) -> float:
        return sum(self._parts(rates))

    def why(self, rates: Rates) -> str:
        """Return the three terms of the time, the largest first."""
        of = (f"{self.calls} calls", f"{self.flops / 1e9:.3g} GFLOP", f"{self.bytes / 1e6:.3g} MB")
        terms = sorted(zip(self._parts(rates), of, strict=True), reverse=True)
        said = ", ".join(f"{part} in {seconds * 1e3:.3g} ms" for seconds, part in terms if seconds)
        return f"{said or 'nothing'} on {self.threads} of {self.cores} cores"

    def _parts(self, rates: Rates) -> tuple[float, float, float]:
        share = self.threads / self.cores
        return (
            self.calls * rates.call_s,
            self.flops / (rates.flops_per_s * self.speed * share),
            self.bytes / (rates.bytes_per_s * min(1, SATURATION * share)),
        )


def pointwise_threads(threads: int, elements: float) -> int:
    """Return how many of ``threads`` torch gives a pointwise operation on this many elements."""
    return max(1, min(threads, math.ceil(elements / GRAIN)))
