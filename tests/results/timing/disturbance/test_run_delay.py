"""Run delays of threads, read from a folder like /proc/self/task."""

from __future__ import annotations

from pathlib import Path

import pytest

from moebench.results.timing.disturbance.run_delay import RunDelays, longest


def thread(tasks: Path, name: str, text: str) -> None:
    (tasks / name).mkdir(exist_ok=True)
    (tasks / name / "schedstat").write_text(text)


def test_threads_come_and_go(tmp_path: Path) -> None:
    thread(tmp_path, "1", "500 20 3\n")
    delays = RunDelays(tmp_path)
    assert (delays.unread, delays.read()) == ("", {"1": 20})
    thread(tmp_path, "2", "1 7 1\n")
    assert delays.read() == {"1": 20}
    assert delays.refresh() == ""
    assert delays.read() == {"1": 20, "2": 7}
    (tmp_path / "1" / "schedstat").unlink()
    (tmp_path / "1").rmdir()
    delays.refresh()
    assert delays.read() == {"2": 7}


def test_the_thread_that_waited_longest_counts() -> None:
    """A thread that is new between two readings has no earlier one to compare with."""
    assert longest({"1": 100, "2": 50}, {"1": 130, "2": 150, "3": 900}) == 100
    assert longest({}, {}) == 0


@pytest.mark.parametrize("text", ["", "nothing\n"])
def test_a_system_that_counts_nothing_says_so(tmp_path: Path, text: str) -> None:
    thread(tmp_path, "1", text)
    assert "no counts" in RunDelays(tmp_path).unread


def test_a_system_without_threads_says_so(tmp_path: Path) -> None:
    assert str(tmp_path / "none") in RunDelays(tmp_path / "none").unread
