"""Phases of calls that nobody disturbed: others are made again, a bounded number of times."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from moebench.execution.trial.observers import phases
from moebench.results.timing.disturbance import Disturbance, Span, Watch

CPU = torch.device("cpu")


class DisturbedWatch(Watch):
    """Watch that finds calls disturbed in turn."""

    def __init__(self, disturbed: Sequence[bool]) -> None:
        super().__init__()
        self._disturbed = cycle(disturbed)

    def stop(self) -> Span:
        return Span(1, Disturbance.others if next(self._disturbed) else Disturbance.none)


@pytest.mark.parametrize(
    ("disturbed", "calls"),
    [([False], 2 * phases.CALLS), ([True, False], 4 * phases.CALLS), ([True], 2 * phases.MOST_CALLS)],
    ids=["quiet", "half", "busy"],
)
def test_disturbed_calls_are_made_again(disturbed: list[bool], calls: int) -> None:
    made: list[None] = []
    layer: Any = SimpleNamespace(comm_stream=SimpleNamespace())
    found = phases._phases(layer, lambda: made.append(None), CPU, DisturbedWatch(disturbed))
    assert len(made) == calls
    assert (found is None) is all(disturbed)
