"""Points without a number because memory was too small: how many, what they needed, and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from ...results.record import Record, Status
from ..numbers import counted

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """``records`` at ``points`` different points ended as out_of_memory.

    ``needed`` are the bytes that the largest was estimated to need, None without an estimate; ``memory`` are the bytes
    of the device.
    """

    points: int
    records: int
    needed: int | None
    memory: int

    @property
    def sentence(self) -> str:
        """Return the shortage and its remedy in one line."""
        most = f"the largest needed about {self.needed / GIB:.1f} GiB, " if self.needed else ""
        return (
            f"{counted(self.records, 'trial')} at {counted(self.points, 'point')} ran out of memory: {most}the "
            f"device has {self.memory / GIB:.1f} GiB; end the other processes that use it, give a smaller --size, or "
            "measure on a device with more memory, with another --output"
        )

    def plain(self) -> dict[str, JsonValue]:
        """Return the same as plain data for JSON."""
        return {
            "points": self.points,
            "records": self.records,
            "needed_bytes": self.needed,
            "memory_bytes": self.memory,
            "remedy": self.sentence,
        }


def shortage(records: Sequence[Record]) -> Shortage | None:
    """Return the shortage of memory in some records, or None where no record ended for lack of it."""
    short = [record for record in records if record.status is Status.out_of_memory]
    if not short:
        return None
    return Shortage(
        points=len({(record.point, record.key) for record in short}),
        records=len(short),
        needed=max((record.needed_bytes for record in short if record.needed_bytes is not None), default=None),
        memory=max(record.environment.memory_bytes for record in short),
    )
