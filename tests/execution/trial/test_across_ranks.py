"""Agreement of ranks about a sample: the time of the slowest, and what disturbed any of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import pytest

from moebench.execution.trial import across_ranks
from moebench.execution.trial.across_ranks import LockstepClock, processes_here
from moebench.results.record import CacheState
from moebench.results.timing.clock import ClockName, Ended, Sample, keep_nothing
from moebench.results.timing.disturbance import Disturbance


class OneSampleClock:
    """Fake clock that takes the same sample again and again."""

    name: ClockName = "perf_counter"
    cache: CacheState = "cold"

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def copies(self, read_bytes: int) -> int:
        return 1

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        return lambda: self._sample

    def state(self) -> None:
        return None


@pytest.mark.parametrize(
    ("mine", "other", "agreed"),
    [
        (Disturbance.none, Disturbance.none, Disturbance.none),
        (Disturbance.none, Disturbance.others, Disturbance.others),
        (Disturbance.stopped, Disturbance.others, Disturbance.stopped),
        (None, Disturbance.others, Disturbance.others),
        (None, None, None),
    ],
)
def test_a_sample_that_is_disturbed_on_one_rank_is_so_on_all(
    mine: Disturbance | None, other: Disturbance | None, agreed: Disturbance | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other rank was slower, and says what disturbed it as this one does."""

    def of_two(values: Sequence[float]) -> list[list[float]]:
        code = across_ranks.NOT_WATCHED if other is None else float(other)
        return [list(values), [9.0, 0.0, code]]

    monkeypatch.setattr(across_ranks, "ranks", lambda: 2)
    monkeypatch.setattr(across_ranks, "in_step", lambda: None)
    monkeypatch.setattr(across_ranks, "gather_floats", of_two)
    clock = LockstepClock(OneSampleClock(Sample(ns=5.0, throttled=False, disturbed=mine)))
    taken = clock.prepare([])()
    assert (taken.ns, taken.disturbed) == (9.0, agreed)


def test_processes_of_another_machine_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their numbers may be those of strangers on this one."""
    monkeypatch.setattr(across_ranks, "gather_floats", lambda mine: [list(mine), [mine[0], 7.0], [mine[0] + 1, 8.0]])
    assert processes_here() == [os.getpid(), 7]
