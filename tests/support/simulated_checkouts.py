"""Sides of a gate that measure nothing and return prepared records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from records import TIMING, record

from moebench.results.record import Record, Status

Times = Callable[[int], dict[str, float]]
"""What each kernel takes in a process of a side, by its number, in ms; 0 where it crashes."""

Asked = list[tuple[str, ...]]
"""What each process of a side was asked: its arguments, and what it was not to measure."""


@dataclass(frozen=True)
class Imagined:
    """Side that measures nothing and notes what it was asked to measure."""

    name: str
    times: Times
    asked: Asked

    def start(self, arguments: Sequence[str], interleave_with: Path, held: Sequence[Record]) -> ImaginedRun:
        assert interleave_with.is_dir()
        turn = len(self.asked)
        self.asked.append((*arguments, *(f"not {record.kernel}" for record in held)))
        named = [value for option, value in pairwise(arguments) if option == "--kernel"]
        generator = np.random.default_rng([ord(self.name), turn])
        wanted = (set(named) or self.times(turn).keys()) - {record.kernel for record in held}
        kernels = {kernel: ms for kernel, ms in self.times(turn).items() if kernel in wanted}
        return ImaginedRun(
            [
                self._record(kernel, turn, ms * float(np.exp(generator.normal(0, 0.003))))
                for kernel, ms in kernels.items()
            ]
        )

    def _record(self, kernel: str, turn: int, ms: float) -> Record:
        time = f"2026-03-01T{turn:04}"
        if not ms:
            return record(kernel=kernel, time=time, timing=None, status=Status.crashed, reason="SIGSEGV")
        return record(kernel=kernel, time=time, timing=TIMING.model_copy(update={"samples_ns": [1e6 * ms]}))


class ImaginedRun(AbstractContextManager["ImaginedRun"]):
    """Run of an imagined side, which is over at once."""

    def __init__(self, records: list[Record]) -> None:
        self.result = lambda: records

    def __exit__(self, *_: object) -> None:
        pass


def always(**times: float) -> Times:
    return lambda _number: times
