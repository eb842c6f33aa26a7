"""Steps of a call, each with the time that it should take: the interface of a static time model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The best rates of a device, measured or from its data sheet.

    ``flops_per_s`` is that of dense products in the dtype of the problem; ``bytes_per_s`` that of a copy, with read and
    write both counted, or of a reading stream; ``call_s`` are the seconds that starting any one operation takes.
    """

    flops_per_s: float
    bytes_per_s: float
    call_s: float


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
