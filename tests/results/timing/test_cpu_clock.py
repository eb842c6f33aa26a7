"""The CPU clock: the order of a sample, and what it leaves as it was."""

from __future__ import annotations

import gc
import time
from functools import partial

import pytest

from moebench.results.timing import cpu_clock
from moebench.results.timing.clock import FLUSH_FACTOR, CallBytes, Clock
from moebench.results.timing.cold.cold_plan import LEAST_TOUCHED
from moebench.results.timing.cold.workspaces import Workspaces
from moebench.results.timing.cpu_clock import CpuClock, RotatingCpuClock, how_cold
from moebench.results.timing.disturbance import Disturbance, Span, Watch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> CpuClock:
    """Return the clock of a machine with a small cache, so that the tests are fast."""
    monkeypatch.setattr(cpu_clock, "last_level_cache_bytes", lambda: 2**16)
    return CpuClock()


def test_order_of_a_sample(clock: CpuClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush, wait for the others, start, call, stop; the result is freed outside, and the sample is the span."""
    log: list[str] = []

    class Result:
        def __del__(self) -> None:
            log.append("free")

    def call() -> Result:
        log.append("call")
        return Result()

    class LoggedWatch(Watch):
        def start(self) -> None:
            log.append("start")

        def stop(self) -> Span:
            log.append("stop")
            return Span(1134, Disturbance.others)

    sample = clock.prepare([call])
    log.clear()
    monkeypatch.setattr(clock, "flush", lambda: log.append("flush"))
    monkeypatch.setattr(clock, "_together", lambda: log.append("together"))
    monkeypatch.setattr(clock, "_watch", LoggedWatch())
    taken = sample()
    assert log == ["flush", "together", "start", "call", "stop", "free"]
    assert (taken.ns, taken.throttled, taken.disturbed) == (1134.0, False, Disturbance.others)
    assert not taken.valid


def test_flush_reads_twice_the_cache_without_writing(clock: CpuClock) -> None:
    """The buffer has the size asked for, is made of written pages, and is the same after a flush."""
    assert clock.flush._buffer.nbytes == FLUSH_FACTOR * 2**16
    version = clock.flush._buffer._version
    clock.flush()
    assert clock.flush._buffer._version == version
    assert bool((clock.flush._buffer == 1).all())


def test_sample_contains_the_whole_call(clock: CpuClock) -> None:
    """A call that sleeps five milliseconds takes at least that long."""
    assert clock.prepare([lambda: time.sleep(0.005)])().ns >= 5e6


def test_samples_take_turns_and_nothing_is_called_besides(clock: CpuClock) -> None:
    log: list[str] = []
    sample = clock.prepare([lambda: log.append("a"), lambda: log.append("b")])
    for _ in range(3):
        sample()
    assert log == ["a", "b", "a"]


def test_it_is_a_cold_clock_without_a_device(clock: CpuClock) -> None:
    """The clock needs one set of buffers and knows no device state."""
    general: Clock = clock
    assert (general.name, general.cache, general.copies(1), general.state()) == ("perf_counter", "cold", 1, None)


def test_no_garbage_collection_in_a_sample(clock: CpuClock) -> None:
    """The collector is off during the call and on again afterwards."""
    seen: list[bool] = []
    sample = clock.prepare([lambda: seen.append(gc.isenabled())])
    seen.clear()
    sample()
    assert seen == [False]
    assert gc.isenabled()


LARGE_CALLS = CallBytes(
    read_bytes=LEAST_TOUCHED, held_bytes=LEAST_TOUCHED, workspace_bytes=2**20, available_bytes=2**34, samples=10**6
)


class Blocks:
    """Fake workspaces that note when they are opened and closed."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def open(self) -> None:
        self._log.append("open")

    def close(self) -> None:
        self._log.append("close")


def test_competitors_take_the_sets_in_one_turn(clock: CpuClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that one competitor has just read is not the next one's; each call has a workspace of its own."""
    log: list[str] = []
    monkeypatch.setattr(Workspaces, "of", lambda *_: Blocks(log))
    rotating = clock.fitted(LARGE_CALLS)
    assert isinstance(rotating, RotatingCpuClock)
    assert rotating.copies(0) == 2
    first, second = (rotating.prepare([partial(log.append, f"{who}{one}") for one in range(2)]) for who in "ab")
    log.clear()
    for sample in (first, second, second, first):
        assert sample().ns > 0
    assert [entry for entry in log if entry not in ("open", "close")] == ["a0", "b1", "b0", "a1"]
    assert log[:3] == ["open", "a0", "close"]
    assert (how_cold(rotating), how_cold(clock)) == ("rotated", "flushed")


def test_a_flush_where_no_workspaces_can_be_had(clock: CpuClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspaces, "of", lambda *_: None)
    assert clock.fitted(LARGE_CALLS) is clock
