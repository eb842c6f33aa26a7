"""Steps of a call, each with the time that it should take: the interface of a static time model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

# Seconds to start one operation: of torch on a CPU, called from Python, and of a kernel on a GPU's stream.
CALL_S = {"cpu": 4e-6, "cuda": 3e-6}
# Bytes/s at which a CPU's memory is written for the first time, page by page, where the rate was not measured: a page
# of 4 KiB took 1 microsecond on two virtual machines.
FRESH_BYTES_PER_S = 4e9


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The best rates of a device, measured or from its data sheet.

    ``flops_per_s`` is that of dense products in the dtype of the problem; ``bytes_per_s`` that of a copy, with read and
    write both counted, or of a reading stream; ``call_s`` are the seconds that starting any one operation takes.

    The others are rates of a CPU. ``products`` are FLOP/s of dense products by the dtype of their operands, and
    ``pointwise`` elements/s of a gated activation in cache (silu, then a product) by dtype; what is missing in them is
    estimated. ``fresh_bytes_per_s`` is that of memory that the system has just given to the process.
    """

    flops_per_s: float
    bytes_per_s: float
    call_s: float
    products: Mapping[str, float] = field(default_factory=dict)
    pointwise: Mapping[str, float] = field(default_factory=dict)
    fresh_bytes_per_s: float = FRESH_BYTES_PER_S


class Step(Protocol):
    """One part of a call, which ends before the next part begins."""

    @property
    def name(self) -> str:
        """The name of the step, as explanations show it."""

    @property
    def moved_bytes(self) -> float:
        """Bytes that are read from memory and written to it, together."""

    def seconds(self, rates: Rates) -> float:
        """Return the time that it should take on a device of these rates."""

    def why(self, rates: Rates) -> str:
        """Explain that time in one line."""
