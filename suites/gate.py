"""The gate: two sides measured in turns, in fresh processes, until it is clear which points became slower."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..results.compare import Verdict, compare
from ..results.difference import TURNS
from ..results.points import Key
from ..results.record import Record
from ..results.sequential import Look, judge
from ..results.store import Store
from .sides import Side


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What both sides are asked: suites, kernels (empty for all) and further arguments of `moebench run`.

    Records go into the stores as they are made, and ``tell`` is told after each look; ``scratch`` is an empty folder.
    """

    sides: tuple[Side, Side]
    stores: tuple[Store, Store]
    suites: Sequence[str]
    kernels: Sequence[str]
    arguments: Sequence[str]
    floor: float
    scratch: Path
    tell: Callable[[str], None]

    def verdicts(self, looks: Sequence[int]) -> list[Verdict]:
        """Measure and judge.

        Raises:
            GateError: when a side cannot be measured.
            StoreError: when its records cannot be written.
        """
        return judge(self._begin, looks)

    def _begin(self, keys: Collection[Key] | None) -> Look:
        if keys is not None:
            self.tell(f"measuring anew what seemed slower: {len(keys)} of the points")
        return _Stage(self, keys).look

    def take(self, side: int, kernels: Sequence[str]) -> list[Record]:
        """The records of one more process of a side."""
        named = [argument for kernel in kernels for argument in ("--kernel", kernel)]
        records = self.sides[side].run([*self.suites, *named, *self.arguments], self.scratch)
        for record in records:
            self.stores[side].append(record)
        return records


@dataclass
class _Stage:
    """One measurement from its beginning, of all points or of ``keys``: what both sides have given so far."""

    gate: Gate
    keys: Collection[Key] | None
    turns: int = 0
    records: tuple[list[Record], list[Record]] = field(default_factory=lambda: ([], []))

    def look(self, processes: int, unclear: Collection[Key] | None) -> list[Verdict]:
        named = self.keys if unclear is None else unclear
        kernels = self.gate.kernels if named is None else sorted({key.kernel for key in named})
        started = time.monotonic()
        while self.turns < 2 * processes:
            side = "AB".index(TURNS[self.turns % len(TURNS)])
            self.records[side].extend(self.gate.take(side, kernels))
            self.turns += 1
        verdicts = compare(*self.records, floor=self.gate.floor, keys=self.keys)
        found = Counter(verdict.status.value for verdict in verdicts)
        self.gate.tell(
            f"{processes} processes a side, {time.monotonic() - started:.0f} s more: "
            f"{', '.join(f'{count} {status}' for status, count in found.items())}"
        )
        return verdicts
