"""One command as a process group of its own, which ends with it: in time, when its time is over, or when we stop."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

GRACE_S = 3.0  # for a command that is asked to end to write what it has
DEATH_S = 5.0  # for a killed process to be gone
POLL_S = 0.05  # how late an end may be noticed; at first much less, for the shortest commands
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Stop = Callable[[], bool]
"""Whether this process has been asked to stop."""


class Stopped(Exception):
    """This process was asked to stop while a command ran; the command is gone."""


@dataclass(frozen=True)
class Ended:
    """End of a command: its exit code, negative for a signal, None when its time was over; and its seconds."""

    exit_code: int | None
    seconds: float


def run(
    command: Sequence[str],
    *,
    limit_s: float,
    folder: Path,
    environment: Mapping[str, str],
    out: Path,
    err: Path,
    stop: Stop,
) -> Ended:
    """Run a command in a folder, its output appended to two files, for at most ``limit_s`` seconds.

    It is asked to end by SIGINT shortly before, so that it may write what it has. Whatever is left of its group is
    killed at the limit, when the command ends by itself, and when this process is asked to stop.

    Raises:
        OSError: when it cannot be started.
        Stopped: when this process is asked to stop.
    """
    started = time.monotonic()
    with out.open("ab") as stdout, err.open("ab") as stderr:
        process = subprocess.Popen(  # noqa: S603  # declared in steps.py, of constants and the paths of tools
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        in_time = _wait(process.pid, started + max(limit_s - GRACE_S, limit_s / 2), stop)
        if not in_time:
            _signal(process.pid, signal.SIGINT)
            _wait(process.pid, started + limit_s, stop)
    finally:
        _signal(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # one that waits inside a driver is left to it
            process.wait(DEATH_S)
    return Ended(process.returncode if in_time else None, time.monotonic() - started)


def _wait(pid: int, until: float, stop: Stop) -> bool:
    """Return whether a process ended in time. It stays a zombie, so that the number of its group is not reused."""
    pause_s = POLL_S / 64
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if stop():
            raise Stopped
        if time.monotonic() >= until:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, POLL_S)
    return True


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Note it when this process is asked to stop, instead of stopping at once."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in STOPS}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
