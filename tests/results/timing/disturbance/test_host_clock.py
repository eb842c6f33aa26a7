"""Two clocks that must agree, and clocks of Python that somebody replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from moebench.results.timing.disturbance import host_clock


@pytest.fixture(autouse=True)
def _own_clocks() -> Iterator[None]:
    yield
    host_clock.restore()


@pytest.mark.parametrize(
    ("first", "second", "agrees"),
    [
        (1_000_000, 1_000_000, True),
        (1_000_000, 1_040_000, True),  # the process lost its core between the two readings
        (1_000_000_000, 1_000_500_000, True),  # a time server slews one of them
        (1_000_000_000, 1_020_000_000, False),
        (5_000_000, 65_000_000, False),
        (-1, -1, False),
    ],
)
def test_clocks_that_run_apart_disagree(first: int, second: int, agrees: bool) -> None:
    assert host_clock.agree((7, 9), (7 + first, 9 + second)) is agrees


def test_both_clocks_of_this_machine_agree() -> None:
    start = host_clock.read()
    time.sleep(0.01)
    assert host_clock.agree(start, host_clock.read())


def test_a_replaced_clock_changes_no_time_and_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    start = host_clock.read()

    def stands_still() -> int:
        return 0

    monkeypatch.setattr(time, "perf_counter_ns", stands_still)
    assert host_clock.read() > start
    found = host_clock.replaced()
    assert found is not None
    assert found.startswith("time.perf_counter_ns was replaced by ")
    assert found.endswith("stands_still")
    host_clock.restore()
    assert host_clock.replaced() is None
    assert time.perf_counter_ns() > 0
