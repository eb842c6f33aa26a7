"""Time that others take of the cores, from a file like /proc/stat and a clock that the test sets."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from moebench.results.timing.disturbance.core_time import TICK_NS, WINDOW_NS, TakenTime


class Machine:
    """Two usable cores of three, on which the test lets time pass."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stat = folder / "stat"
        self.now_ns = 0
        self.ours_ns = 0
        self._busy = {0: 10, 1: 10, 2: 10}
        self._stolen = 0
        self._write()
        monkeypatch.setattr(time, "process_time_ns", lambda: self.ours_ns)
        self.taken = TakenTime(now_ns=lambda: self.now_ns, stat=self.stat, cores=[0, 2])

    def passes(self, ns: float, *, busy: dict[int, int], ours_ns: float = 0, stolen: int = 0) -> None:
        """Let time pass in which cores were busy, and stolen, for so many ticks."""
        self.now_ns += int(ns)
        self.ours_ns += int(ours_ns)
        self._stolen += stolen
        for core, ticks in busy.items():
            self._busy[core] += ticks
        self._write()
        self.taken.update()

    def _write(self) -> None:
        lines = [f"cpu{core} {busy} 0 0 500 0 0 0 {self._stolen} 0 0" for core, busy in self._busy.items()]
        self.stat.write_text("\n".join(["cpu 1 2 3 4 5 6 7 8 9 10", *lines, "intr 5", "ctxt 7", ""]))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_others_are_what_is_left_of_the_busy_time(machine: Machine) -> None:
    """The usable cores were busy for 40 ticks, of which ours ran 25; core 1 is nobody's business."""
    machine.passes(WINDOW_NS, busy={0: 25, 1: 25, 2: 15}, ours_ns=25 * TICK_NS)
    assert machine.taken.lately().by_others == pytest.approx(15 * TICK_NS / WINDOW_NS)
    assert machine.taken.lately().by_hypervisor == 0


def test_threads_of_our_own_that_spin_are_no_others(machine: Machine) -> None:
    """Both cores busy all the time, with our own threads: rounding of the counts is no negative share either."""
    machine.passes(WINDOW_NS, busy={0: 25, 2: 25}, ours_ns=50.5 * TICK_NS)
    assert machine.taken.lately().by_others == 0


def test_the_hypervisor_is_told_apart(machine: Machine) -> None:
    machine.passes(WINDOW_NS, busy={0: 10, 2: 10}, ours_ns=20 * TICK_NS, stolen=5)
    assert machine.taken.lately().by_hypervisor == pytest.approx(2 * 5 * TICK_NS / WINDOW_NS)


def test_a_short_time_says_nothing_and_what_is_past_is_forgotten(machine: Machine) -> None:
    """One tick in 25 ms would be 40 % of a core; and who ran a second ago does not run now."""
    machine.passes(WINDOW_NS / 10, busy={0: 1})
    assert machine.taken.lately().by_others == 0
    machine.passes(WINDOW_NS, busy={0: 20})
    assert machine.taken.lately().by_others > 0.5
    for _ in range(2):
        machine.passes(WINDOW_NS, busy={})
    assert machine.taken.lately().by_others == 0


@pytest.mark.parametrize("at_once", [True, False])
def test_processes_that_belong_to_the_run_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, at_once: bool
) -> None:
    """Other ranks from the start, and a partner of interleaved runs from when it comes: not what it ran before."""
    ran = Machine(tmp_path, monkeypatch)
    ran.now_ns = 10**9
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: ran.now_ns)
    taken = TakenTime({os.getpid(), 1} if at_once else (), now_ns=lambda: ran.now_ns, stat=ran.stat, cores=[0, 2])
    if not at_once:
        taken.count_as_ours({os.getpid(), 1})
    ran.passes(WINDOW_NS, busy={0: 25})
    taken.update()
    assert taken.lately().by_others == 0


def test_one_that_ends_does_not_make_the_others_time_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = Machine(tmp_path, monkeypatch)
    clock = iter([0, 0, 0.4 * WINDOW_NS])

    def process_clock(_: int) -> float:
        try:
            return next(clock)
        except StopIteration:
            raise ProcessLookupError from None

    monkeypatch.setattr(time, "clock_gettime_ns", process_clock)
    taken = TakenTime({1}, now_ns=lambda: ran.now_ns, stat=ran.stat, cores=[0, 2])
    for _ in range(2):
        ran.passes(WINDOW_NS / 2, busy={0: 12})
        taken.update()
    assert taken.lately().by_others == pytest.approx(24 * TICK_NS / WINDOW_NS - 0.4, abs=0.01)


def test_a_system_that_does_not_tell_says_so(tmp_path: Path) -> None:
    """Like gVisor, whose counts are all zero, or macOS, which has no such file."""
    assert "No such file" in TakenTime(stat=tmp_path / "none").unread
    (tmp_path / "stat").write_text("cpu 0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n")
    taken = TakenTime(stat=tmp_path / "stat", cores=[0])
    taken.update()
    assert "counts nothing" in taken.unread
    assert taken.lately().by_others == 0


def test_a_process_that_has_ended_took_nothing() -> None:
    assert TakenTime({2**22 + 1}).lately().by_others == 0
