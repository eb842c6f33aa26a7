"""Commands that are stopped or killed for real: no worker and no folder is left, no record blames an implementation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from moebench.results.record import Status
from moebench.results.record.store import load

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]  # workers start

MOEBENCH = Path(sys.executable).with_name("moebench")
VERBS = {
    "run": ["run", "smoke", "--device", "cpu", "-k", "loop", "--samples", "3", "-o", "r.jsonl"],
    "run on 2 ranks": ["run", "parallel", "--device", "cpu", "--samples", "3", "-o", "r.jsonl"],
    "tune": ["tune", "scatter", "--device", "cpu", "--shape", "D=64,F=64,E=8,K=2", "-T", "64,128", "-o", "r.jsonl"],
}
ORPHANS_S = 5.0  # after which no worker may be left
START_S = 180.0  # where other work has the cores, samples wait for quiet


class Stopped:
    """A command in a process group of its own, with all processes that inherit its environment."""

    def __init__(self, verb: str, folder: Path) -> None:
        self.mark = f"MOEBENCH_TEST_MARK={uuid.uuid4().hex}"
        self.records = folder / "r.jsonl"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        name, _, value = self.mark.partition("=")
        self.process = subprocess.Popen(
            [str(MOEBENCH), *VERBS[verb]],
            cwd=folder,
            env={**os.environ, name: value, "TMPDIR": str(self.temporary)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_records(self) -> None:
        deadline = time.monotonic() + START_S
        while not (self.records.exists() and self.records.stat().st_size):
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def left(self) -> list[int]:
        """Return the processes of the command that run."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue  # it has ended, or is another user's
        return found

    def wait_until_none_is_left(self) -> None:
        deadline = time.monotonic() + ORPHANS_S
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.left() == []


@pytest.mark.parametrize("verb", VERBS)
def test_workers_end_soon_after_the_command_was_killed(verb: str, tmp_path: Path) -> None:
    command = Stopped(verb, tmp_path)
    command.wait_for_records()
    assert len(command.left()) > 1
    command.process.kill()
    command.process.communicate()
    command.wait_until_none_is_left()


@pytest.mark.parametrize(
    ("verb", "number"),
    [*((verb, signal.SIGTERM) for verb in VERBS), ("run on 2 ranks", signal.SIGHUP), ("tune", signal.SIGINT)],
)
def test_a_signal_to_all_processes_keeps_the_records_and_blames_nobody(
    verb: str, number: signal.Signals, tmp_path: Path
) -> None:
    """A terminal sends Ctrl-C to the whole group, and so do systemd and batch systems with SIGTERM."""
    command = Stopped(verb, tmp_path)
    command.wait_for_records()
    os.killpg(command.process.pid, number)
    if verb == "tune" and number is signal.SIGINT:  # the first one ends the search only
        time.sleep(0.5)
        os.killpg(command.process.pid, number)
    said = command.process.communicate(timeout=30)[1]
    assert command.process.returncode == 2
    assert "--output r.jsonl" in said
    assert "Traceback" not in said
    command.wait_until_none_is_left()
    kept = load(command.records)
    assert kept.records
    assert kept.problems == []
    assert {record.status for record in kept.records} <= {Status.passed, Status.disturbed, Status.unsupported}
    assert list(command.temporary.glob("moebench-*")) == []  # torch keeps a cache of its own there
