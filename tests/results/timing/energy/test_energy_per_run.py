"""Joules of one run: right whatever the counter's ticks are and wherever among them it begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.results.timing.energy.energy_per_run import ENERGY_MS, LEAST_BATCHES, UNCERTAIN, joules_per_run

WATTS = 300.0


class Device:
    """A device that draws `WATTS` while it runs, whose counter moves every ``tick_ms``."""

    def __init__(self, ms: float, tick_ms: float, start_ms: float = 0.0) -> None:
        self.ms, self.tick_ms, self.now_ms = ms, tick_ms, start_ms
        self.runs = 0

    def run(self, times: int) -> None:
        self.runs += times
        self.now_ms += times * self.ms

    def read(self) -> float:
        return WATTS * (self.now_ms // self.tick_ms * self.tick_ms) / 1e3


@given(
    ms=st.floats(min_value=0.01, max_value=3000.0),
    tick_ms=st.floats(min_value=1.0, max_value=100.0),
    start_ms=st.floats(min_value=0.0, max_value=500.0),
)
def test_it_is_right_within_a_few_per_cent(ms: float, tick_ms: float, start_ms: float) -> None:
    device = Device(ms, tick_ms, start_ms)
    joules = joules_per_run(device.run, ms, device.read, tick_ms=tick_ms)
    assert joules == pytest.approx(WATTS * ms / 1e3, rel=0.12)


@given(ms=st.floats(min_value=0.01, max_value=3000.0), tick_ms=st.floats(min_value=1.0, max_value=100.0))
def test_it_runs_for_half_a_second_or_what_long_runs_and_ticks_need(ms: float, tick_ms: float) -> None:
    device = Device(ms, tick_ms)
    joules_per_run(device.run, ms, device.read, tick_ms=tick_ms)
    needed_ms = max(ENERGY_MS, UNCERTAIN * tick_ms) + LEAST_BATCHES * max(ms, 10.0)
    assert 0.9 * ENERGY_MS <= device.now_ms <= 1.1 * needed_ms


def test_a_counter_that_does_not_move_or_fails_gives_none() -> None:
    device = Device(1.0, 10.0)
    assert joules_per_run(device.run, 1.0, lambda: 5.0, tick_ms=10.0) is None
    assert joules_per_run(device.run, 1.0, lambda: None, tick_ms=10.0) is None
