"""Turns: two processes alternate, and neither waits for one that has nothing to do, has died or never came."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from moebench.execution.trial import interleave_lock as module
from moebench.execution.trial.interleave_lock import interleave

TAKER = """
import os, sys, time
from pathlib import Path
from moebench.execution.trial.interleave_lock import interleave

folder, name, count, dies_at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with interleave(folder, [os.getpid()]) as turns:
    (folder / f"partners of {name}").write_text(f"{os.getpid()} {sorted(turns.partners)}")
    for number in range(count):
        turns.pass_on()
        if number == dies_at:
            os.kill(os.getpid(), 9)
        time.sleep(0.01 if name == "a" else 0)  # without turns, b would be done first
        with (folder / "log").open("a") as log:
            log.write(name)
"""


def take(folder: Path, *takers: tuple[str, int, int]) -> tuple[str, list[int]]:
    """Run processes that take turns; return the names in the order of the turns, and the exit codes."""
    started = [
        subprocess.Popen([sys.executable, "-c", TAKER, str(folder), *map(str, taker)])  # name, turns, last turn alive
        for taker in takers
    ]
    ended = [process.wait(timeout=30) for process in started]
    return (folder / "log").read_text(), ended


@pytest.mark.parametrize(("lengths", "alone"), [((20, 20), 0), ((20, 25), 5)])
def test_two_alternate_and_one_goes_on_alone(tmp_path: Path, lengths: Sequence[int], alone: int) -> None:
    log, ended = take(tmp_path, ("a", lengths[0], -1), ("b", lengths[1], -1))
    assert ended == [0, 0]
    assert len(log) == sum(lengths)
    together = log[8 : len(log) - alone - 8]  # the first to arrive has some turns before the other starts
    # A process that the system does not run for SETTLE_S comes too late for its turn: the other has two in a row.
    repeated = sum(one == following for one, following in pairwise(together))
    assert repeated <= len(together) // 6


def test_each_learns_the_processes_of_the_other(tmp_path: Path) -> None:
    """Time that the partner ran just before a sample is then not taken for the work of others."""
    take(tmp_path, ("a", 2, -1), ("b", 2, -1))
    own_a, partners_of_a = (tmp_path / "partners of a").read_text().split(" ", 1)
    own_b, partners_of_b = (tmp_path / "partners of b").read_text().split(" ", 1)
    assert (partners_of_a, partners_of_b) == (f"[{own_b}]", f"[{own_a}]")


def test_the_turn_of_one_that_died_is_the_others(tmp_path: Path) -> None:
    log, ended = take(tmp_path, ("a", 10, -1), ("b", 10, 3))
    assert ended == [0, -signal.SIGKILL]
    assert (log.count("a"), log.count("b")) == (10, 3)


def test_who_never_comes_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEET_S", 0.2)
    started = time.monotonic()
    with interleave(tmp_path, [1, 2]) as turns:
        turns.pass_on()
    assert turns.partners == frozenset()
    assert 0.2 < time.monotonic() - started < 5


def test_without_a_folder_nothing_waits() -> None:
    with interleave(None, [1, 2]) as turns:
        turns.pass_on()
    assert turns.partners == frozenset()
