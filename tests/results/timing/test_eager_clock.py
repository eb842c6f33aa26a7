"""The eager clock counts what a serving loop waits for: launches where they take longer, the device where it does."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable

import pytest

from moebench.results.timing.clock import Clock, rotation
from moebench.results.timing.disturbance import host_clock
from moebench.results.timing.eager_clock import SAMPLE_NS, EagerClock
from moebench.results.timing.nvml import NoTelemetry

CACHE_BYTES = 1000
WAIT_NS = 10_000.0


class Host:
    """A host with a device behind it: calls take time to launch on the one and to run on the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 0.0
        self.free_ns = 0.0
        self.waits = 0
        monkeypatch.setattr(host_clock, "read", lambda: (int(self.now_ns), int(self.now_ns)))

    def call(self, launch_ns: float, run_ns: float) -> Callable[[], None]:
        def call() -> None:
            self.now_ns += launch_ns
            self.free_ns = max(self.free_ns, self.now_ns) + run_ns

        return call

    def wait(self) -> None:
        self.waits += 1
        self.now_ns = max(self.now_ns, self.free_ns) + WAIT_NS

    def clock(
        self, slowest: Callable[[float], float] = lambda value: value, telemetry: NoTelemetry | None = None
    ) -> EagerClock:
        return EagerClock(CACHE_BYTES, telemetry, wait=self.wait, slowest=slowest)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


@pytest.mark.parametrize(
    ("launch_ns", "run_ns", "expected"),
    [(300_000, 50_000, 300_000), (300_000, 900_000, 900_000), (300_000, 50_000_000, 50_300_000)],
    ids=["bound by the host", "bound by the device", "longer than a sample"],
)
def test_the_longer_of_launching_and_running_counts(
    host: Host, launch_ns: float, run_ns: float, expected: float
) -> None:
    """A call of a decode step is bound by its launches; the two overlap, but for the first and the last call."""
    taken = host.clock().prepare([host.call(launch_ns, run_ns)])()
    assert taken.ns == pytest.approx(expected, rel=0.01)
    assert not taken.throttled


def test_a_sample_waits_before_and_after_and_never_between(host: Host) -> None:
    sample = host.clock().prepare([host.call(1000, 500)] * 3)
    before, host.waits = host.now_ns, 0
    sample()
    assert host.waits == 2
    assert host.now_ns - before >= SAMPLE_NS / 2


def test_calls_take_turns_and_ranks_make_as_many(host: Host) -> None:
    """Every rank makes as many calls as the slowest does in a sample, each set of inputs equally often."""
    made: list[int] = []

    def noted(one: int) -> Callable[[], None]:
        def call() -> None:
            made.append(one)
            host.call(1e6, 0)()

        return call

    calls = [noted(one) for one in range(3)]
    sample = host.clock(slowest=lambda ns: 2 * ns).prepare(calls)
    made.clear()
    taken = sample()
    assert taken.calls == len(made)
    assert made == [0, 1, 2] * math.ceil(SAMPLE_NS / (2 * (3e6 + WAIT_NS)))


def test_the_collector_is_off_meanwhile(host: Host) -> None:
    seen: list[bool] = []

    def call() -> None:
        seen.append(gc.isenabled())
        host.call(1e6, 0)()

    host.clock().prepare([call])()
    assert not any(seen)
    assert gc.isenabled()


def test_inputs_go_round_as_with_hot_caches(host: Host) -> None:
    clock: Clock = host.clock()
    assert (clock.name, clock.cache, clock.state()) == ("perf_counter", "eager", None)
    assert clock.copies(300) == rotation(CACHE_BYTES, 300) == 7


def test_a_gpu_that_cannot_be_read_says_why(host: Host) -> None:
    clock = host.clock(telemetry=NoTelemetry("no NVML"))
    state = clock.state()
    assert state is not None
    assert state.unread == "no NVML"
    assert not clock.prepare([host.call(1e6, 0)])().throttled
