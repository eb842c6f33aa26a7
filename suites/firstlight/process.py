"""A command in its own process group, which is killed when the command ends, at its time limit, or at a stop."""

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

from ...common.cores import roaming

GRACE_S = 3.0  # for a command to write its results after it was asked to end
DEATH_S = 5.0  # to wait for a killed process
POLL_S = 0.05  # longest pause between two looks at a process; the first pauses are much shorter
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Stop = Callable[[], bool]
"""Function that returns True once this process has been asked to stop."""


class Stopped(Exception):
    """This process was asked to stop while a command ran; the command was killed."""


@dataclass(frozen=True)
class Ended:
    """End of a command: its exit code (negative for a signal, None at the time limit) and its duration in seconds."""

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
    """Run a command in a folder for at most ``limit_s`` seconds and append its output to two files.

    The command gets SIGINT shortly before the limit, so that it can write its results. All processes left in its group
    are killed at the limit, when the command ends, and when this process is asked to stop.

    Raises:
        OSError: when the command cannot be started.
        Stopped: when this process is asked to stop.
    """
    started = time.monotonic()
    with out.open("ab") as stdout, err.open("ab") as stderr, roaming():
        process = subprocess.Popen(  # noqa: S603  # from session_steps.py: constants and paths of tools
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
        with suppress(subprocess.TimeoutExpired):  # a process that waits inside a driver ends when the driver lets it
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
    """Note SIGINT, SIGTERM and SIGHUP in the block instead of stopping at once; yield a function that reports them."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in STOPS}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
