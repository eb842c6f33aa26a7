"""What a call does, step by step, as far as it is known without running it: the makings of a static model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a device does at best, measured or from its data sheet.

    FLOP/s of dense products in the dtype of the problem, bytes/s of memory (a copy's, read and write both counted, or
    a reading stream's), and the seconds that starting one operation takes, whatever it does.
    """

    flops_per_s: float
    bytes_per_s: float
    call_s: float


class Step(Protocol):
    """One part of a call, over before the next begins."""

    @property
    def name(self) -> str: ...

    @property
    def moved_bytes(self) -> float:
        """What passes through memory, in both directions together."""

    def seconds(self, rates: Rates) -> float:
        """The time it should take."""

    def why(self, rates: Rates) -> str:
        """What that time is made of, in one line."""
