"""Causes that disturb a sample: by its rule, and injected: a busy process, a stopped one, a clock that jumps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from moebench.results.timing.disturbance import Disturbance, Watch, host_clock
from moebench.results.timing.disturbance.core_time import Taken
from moebench.results.timing.disturbance.watch import BUSY, DELAYED, DELAYED_NS, TAKEN, disturbance

MS = 1_000_000


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Return a watch that is not told to let everything count, as the other tests tell it."""
    monkeypatch.delenv(BUSY)
    return Watch()


@pytest.mark.parametrize(
    ("ns", "delay_ns", "taken", "found"),
    [
        (50 * MS, 0, Taken(), Disturbance.none),
        (50 * MS, 25 * MS, Taken(by_others=0.5), Disturbance.others),
        (50 * MS, DELAYED * 50 * MS, Taken(by_others=TAKEN), Disturbance.others),
        (50 * MS, DELAYED * 49 * MS, Taken(by_others=1.0), Disturbance.none),  # too little to matter
        (50 * MS, 25 * MS, Taken(by_others=0.9 * TAKEN), Disturbance.none),  # it waited for threads of its own
        (0.2 * MS, 0.9 * DELAYED_NS, Taken(by_others=1.0), Disturbance.none),  # the time that waking up takes
        (50 * MS, 0, Taken(by_hypervisor=TAKEN), Disturbance.hypervisor),
    ],
)
def test_rule(ns: float, delay_ns: float, taken: Taken, found: Disturbance) -> None:
    assert disturbance(ns, delay_ns, taken) is found


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and pins itself to a core")
def test_a_busy_process_on_the_same_core(watch: Watch) -> None:
    """The busy process gets half of the core, and every sample that is longer than its turns is disturbed."""
    if watch.unread:
        pytest.skip(watch.unread)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # the child inherits it
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        found: list[Disturbance | None] = []
        while Disturbance.others not in found and len(found) < 5:  # a hypervisor that takes more is named instead
            watch.start()
            spin(0.4)
            found.append(watch.stop().disturbed)
        assert found[-1] is Disturbance.others, found
        assert Disturbance.none not in found
    finally:
        busy.kill()
        busy.wait()
        os.sched_setaffinity(0, cores)


STOPPED = """
import time
from moebench.results.timing.disturbance import Watch
watch = Watch()
watch.start()
print("started", flush=True)
input()
print(watch.stop().disturbed.name)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals that stop a process")
def test_a_process_that_is_stopped_from_outside() -> None:
    child = subprocess.Popen([sys.executable, "-c", STOPPED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "started\n"
    child.send_signal(signal.SIGSTOP)
    time.sleep(0.05)
    child.send_signal(signal.SIGCONT)
    assert child.communicate("\n")[0] == "stopped\n"


@pytest.mark.parametrize("jump", [60 * MS, -60 * MS])
def test_a_clock_that_jumps(watch: Watch, monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    """The other clock does not jump with it."""
    own = host_clock._first
    watch.start()
    monkeypatch.setattr(host_clock, "_first", lambda: own() + jump)
    assert watch.stop().disturbed is Disturbance.clock


def test_where_the_system_does_not_tell_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither that others were there nor that they were not; the clocks are compared all the same."""
    monkeypatch.setenv(BUSY, "1")
    watch = Watch()
    assert BUSY in watch.unread
    watch.start()
    assert watch.stop().disturbed is None


def test_reading_it_takes_little(watch: Watch) -> None:
    """Under 100 µs before a sample and after it; the fastest of many, for this machine may be busy."""
    took = []
    for _ in range(50):
        start = time.perf_counter_ns()
        watch.start()
        watch.stop()
        took.append(time.perf_counter_ns() - start)
    assert min(took) < 200_000 + 20_000 * len(os.listdir("/proc/self/task"))  # noqa: PTH208  # as the watch does
