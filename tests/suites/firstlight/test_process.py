"""Commands with a time limit: all their processes end with them, and they can write their results before."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moebench.suites.firstlight import process
from moebench.suites.firstlight.process import Ended, Stopped, run, stoppable


def never() -> bool:
    return False


def ran(folder: Path, *command: str, limit_s: float = 10.0, stop: Callable[[], bool] = never) -> Ended:
    return run(
        command,
        limit_s=limit_s,
        folder=folder,
        environment=os.environ,
        out=folder / "out",
        err=folder / "err",
        stop=stop,
    )


def gone(pid: int) -> bool:
    """Return whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def soon(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 5
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return true()


GRANDCHILD = "sleep 60 & echo $! > grandchild; "


@pytest.mark.parametrize(
    ("rest", "limit_s", "code"), [("exit 0", 10.0, 0), ("exit 3", 10.0, 3), ("wait", 0.3, None), ("kill $$", 10.0, -15)]
)
def test_no_process_of_a_command_outlives_it(rest: str, limit_s: float, code: int | None, tmp_path: Path) -> None:
    ended = ran(tmp_path, "/bin/sh", "-c", GRANDCHILD + rest, limit_s=limit_s)
    assert ended.exit_code == code
    assert soon(lambda: gone(int((tmp_path / "grandchild").read_text())))


def test_a_command_that_ignores_signals_is_killed_at_its_limit(tmp_path: Path) -> None:
    """A command inside a compiler or a driver may not react to signals."""
    started = time.monotonic()
    ended = ran(tmp_path, "/bin/sh", "-c", "trap '' INT TERM HUP; sleep 60", limit_s=0.4)
    assert ended.exit_code is None
    assert 0.4 <= time.monotonic() - started < 5
    assert ended.seconds == pytest.approx(0.4, abs=2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Popen says that it is left behind
def test_a_command_that_cannot_be_killed_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals reach a process inside a driver only when the driver is done."""
    monkeypatch.setattr(process, "DEATH_S", 0.1)
    monkeypatch.setattr(process, "_signal", lambda *_: None)
    ended = ran(tmp_path, "/bin/sh", "-c", "echo $$ > leader; exec sleep 60", limit_s=0.3)
    monkeypatch.undo()
    os.killpg(int((tmp_path / "leader").read_text()), signal.SIGKILL)
    assert ended.exit_code is None
    assert ended.seconds < 5


def test_a_command_may_write_what_it_has_before_its_limit(tmp_path: Path) -> None:
    writes = "pathlib.Path('part').write_text('half')"
    code = f"import pathlib, time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: {writes}"
    ended = ran(tmp_path, sys.executable, "-I", "-S", "-c", code, limit_s=4.0)
    assert ended.exit_code is None  # it exceeded its limit, whatever its exit code
    assert (tmp_path / "part").read_text() == "half"


def test_a_stop_kills_the_group_and_is_raised(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        ran(tmp_path, "/bin/sh", "-c", GRANDCHILD + "wait", stop=(tmp_path / "grandchild").exists)
    assert soon(lambda: gone(int((tmp_path / "grandchild").read_text() or 0)))


@pytest.mark.parametrize("number", process.STOPS)
def test_signals_are_noted_and_their_handlers_restored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stoppable() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
    assert signal.getsignal(number) is before


def test_output_is_appended_and_input_is_none(tmp_path: Path) -> None:
    for word in ("one", "two"):
        ran(tmp_path, "/bin/sh", "-c", f"cat; echo {word}; echo {word}! >&2")
    assert (tmp_path / "out").read_text() == "one\ntwo\n"
    assert (tmp_path / "err").read_text() == "one!\ntwo!\n"
