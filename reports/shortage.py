"""The points that have no number because memory was too small: how many, what they needed, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from ..results.record import Record, Status

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """``records`` of so many ``points`` are out_of_memory.

    ``needed`` are the bytes of the largest as far as they were reckoned, ``memory`` those of the device.
    """

    points: int
    records: int
    needed: int | None
    memory: int

    @property
    def sentence(self) -> str:
        """In one line, with the remedy."""
        points = "1 point has" if self.points == 1 else f"{self.points} points have"
        records = "1 result is" if self.records == 1 else f"{self.records} results are"
        most = f"the largest needed about {self.needed / GIB:.1f} GiB, " if self.needed else ""
        return (
            f"{points} a hole: {records} out_of_memory, {most}the device has {self.memory / GIB:.1f} GiB; end what "
            "else uses it, give a smaller --size, or measure on a device with more memory, with another --output"
        )

    def plain(self) -> dict[str, JsonValue]:
        """The same for machines."""
        return {
            "points": self.points,
            "records": self.records,
            "needed_bytes": self.needed,
            "memory_bytes": self.memory,
            "remedy": self.sentence,
        }


def shortage(records: Sequence[Record]) -> Shortage | None:
    """What memory was too small for, or None where every point was measured or refused for another reason."""
    short = [record for record in records if record.status is Status.out_of_memory]
    if not short:
        return None
    return Shortage(
        points=len({(record.point, record.key) for record in short}),
        records=len(short),
        needed=max((record.needed_bytes for record in short if record.needed_bytes is not None), default=None),
        memory=max(record.environment.memory_bytes for record in short),
    )
