"""The gate: two sides are measured in pairs of fresh processes until it is clear which points became slower."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ...results.record import Record
from ...results.record.identity import Identity
from ...results.record.store import Store
from ...results.regression.grouping import points
from ...results.regression.sequential import Look, judge
from ...results.regression.verdicts import Verdict, compare
from .checkouts import Side

# Of each process at most. With 41 samples the ratios of recorded pairs of equal sides differ by 1.03 %, with 31 by
# 1.08 % and with 21 by 1.31 %; a process has to start and to be checked for each.
SAMPLES: Final = 31


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One comparison of two sides: suites, kernels (empty for all) and further arguments of `moebench run`.

    Records go into the stores as they are made, and ``tell`` is called with a sentence after each look; ``scratch`` is
    an empty folder. ``records`` are those of both sides so far.
    """

    sides: tuple[Side, Side]
    stores: tuple[Store, Store]
    suites: Sequence[str]
    kernels: Sequence[str]
    arguments: Sequence[str]
    floor: float
    scratch: Path
    tell: Callable[[str], None]
    records: tuple[list[Record], list[Record]] = field(default_factory=lambda: ([], []))

    def verdicts(self, looks: Sequence[int]) -> list[Verdict]:
        """Measure both sides and judge every point.

        Raises:
            GateError: when a side cannot be measured.
            StoreError: when its records cannot be written.
        """
        return judge(self._begin, looks)

    def _begin(self, keys: Collection[Identity] | None) -> Look:
        if keys is not None:
            self.tell(f"measuring the points that seemed slower again: {len(keys)}")
        return _GateStage(self, keys).look

    def pair(self, number: int, keys: Collection[Identity] | None) -> list[list[Record]]:
        """Run one more process of each side, interleaved, and return their records; the sides begin in turn.

        They measure the points ``keys``, all if None.
        """
        named = [argument for kernel in self.kernels for argument in ("--kernel", kernel)]
        arguments = [*self.suites, *named, *self.arguments, "--samples", str(SAMPLES)]
        with tempfile.TemporaryDirectory(prefix="pair-", dir=self.scratch) as folder, ExitStack() as running:
            sides = list(zip(self.sides, self._held(keys), strict=True))
            order = 1 if number % 2 == 0 else -1
            runs = [running.enter_context(side.start(arguments, Path(folder), held)) for side, held in sides[::order]]
            found = [run.result() for run in runs[::order]]
        for store, kept, made in zip(self.stores, self.records, found, strict=True):
            for record in made:
                store.append(record)
            kept.extend(made)
        return found

    def _held(self, keys: Collection[Identity] | None) -> list[list[Record]]:
        """Return a record of each side for every point but ``keys``: a run that holds it does not measure the point."""
        if keys is None:
            return [[], []]
        return [[of_point[0] for key, of_point in side.items() if key not in keys] for side in points(*self.records)]


@dataclass
class _GateStage:
    """One measurement from its start, of all points or of ``keys``, with the records of both sides so far."""

    gate: Gate
    keys: Collection[Identity] | None
    pairs: int = 0
    records: tuple[list[Record], list[Record]] = field(default_factory=lambda: ([], []))

    def look(self, processes: int, unclear: Collection[Identity] | None) -> list[Verdict]:
        asked = self.keys if unclear is None else unclear
        started = time.monotonic()
        for number in range(self.pairs, processes):
            for records, more in zip(self.records, self.gate.pair(number, asked), strict=True):
                records.extend(more)
        self.pairs = processes
        verdicts = compare(*self.records, floor=self.gate.floor, keys=self.keys)
        found = Counter(verdict.status.value for verdict in verdicts)
        self.gate.tell(
            f"{processes} processes a side, {time.monotonic() - started:.0f} s more: "
            f"{', '.join(f'{count} {status}' for status, count in found.items())}"
        )
        return verdicts
