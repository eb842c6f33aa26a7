"""Cost model of a CPU: torch operations that share its cores and its memory, one after another.

The constants were fitted from timings of the one operation that each speaks of, with torch 2.13 on two cores: of a Zen
5 (1 MiB of L2 a core, 32 MiB of L3) and of a Zen 4 of the same caches, both with products of bfloat16. Rates differ
between machines and are measured; the constants count operations, passes and elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..problem import ELEMENT_BYTES
from ..steps import Rates

# Elements below which torch leaves a pointwise operation to one thread: at::internal::GRAIN_SIZE.
GRAIN = 32768
# A part of the cores fills the memory bus: one of two copied at 0.6 to 0.65 of the rate of both.
SATURATION = 1.25
# Bytes of a tensor from which glibc asks the system for memory in every call and gives it back: its largest
# M_MMAP_THRESHOLD, which it reaches by itself.
FRESH_BYTES = 32 << 20
# Products of a dtype over the fastest ones that hold it exactly, where they were not measured: bfloat16 has
# instructions, 475 GFLOP/s a core against 109 in float32; float16 has none, 24 GFLOP/s.
SPEEDS = {
    "float32": {"float32": 1.0},
    "bfloat16": {"bfloat16": 1.0, "float32": 0.23},
    "float16": {"float16": 0.22, "float32": 1.0},
}
# Seconds of a core for an element of a gated activation in cache, where it was not measured: 306 and 540 ps in float32,
# 450 and 760 in bfloat16, whose elements are converted to float32 and back.
GATED_S = {2: 600e-12, 4: 420e-12}


@dataclass(frozen=True, kw_only=True)
class Operations:
    """A step of ``calls`` operations, one after another, on ``threads`` of the ``cores`` whose rates were measured.

    ``flops`` are those of products of ``dtype`` in a problem of dtype ``held``; ``bytes`` pass through memory or the
    last-level cache; ``fresh`` bytes lie in memory that the system gives to the call page by page; ``gated`` are
    elements in cache, each worth as much as one of a gated activation. The times are added: a product packs its operand
    before it multiplies.
    """

    name: str
    calls: float
    threads: int
    cores: int
    dtype: str = "float32"
    held: str = "float32"
    flops: float = 0
    bytes: float = 0
    fresh: float = 0
    gated: float = 0

    @property
    def moved_bytes(self) -> float:
        """See `Step.moved_bytes`; bytes that stay in the last-level cache are included."""
        return self.bytes

    def seconds(self, rates: Rates) -> float:
        return sum(self._parts(rates))

    def why(self, rates: Rates) -> str:
        """Return the terms of the time, the largest first."""
        of = (
            f"{self.calls:g} calls",
            f"{self.flops / 1e9:.3g} GFLOP",
            f"{self.bytes / 1e6:.3g} MB",
            f"{self.fresh / 1e6:.3g} MB of new pages",
            f"{self.gated / 1e6:.3g} million elements",
        )
        terms = sorted(zip(self._parts(rates), of, strict=True), reverse=True)
        said = ", ".join(f"{part} in {seconds * 1e3:.3g} ms" for seconds, part in terms if seconds)
        return f"{said or 'nothing'} on {self.threads} of {self.cores} cores"

    def _parts(self, rates: Rates) -> tuple[float, float, float, float, float]:
        share = self.threads / self.cores
        products = rates.products.get(self.dtype) or rates.flops_per_s * SPEEDS[self.held][self.dtype]
        gated = rates.pointwise.get(self.dtype) or self.cores / GATED_S[ELEMENT_BYTES[self.dtype]]
        return (
            self.calls * rates.call_s,
            self.flops / (products * share),
            self.bytes / (rates.bytes_per_s * min(1, SATURATION * share)),
            self.fresh / rates.fresh_bytes_per_s,
            self.gated / (gated * share),
        )


def pointwise_threads(threads: int, elements: float) -> int:
    """Return how many of ``threads`` torch gives a pointwise operation on this many elements."""
    return max(1, min(threads, math.ceil(elements / GRAIN)))


def fresh_bytes(*tensors: float) -> float:
    """Return the bytes of those of some new tensors that are too large for memory that the process has kept."""
    return sum(size for size in tensors if size >= FRESH_BYTES)
