"""Launcher of torchrun for tests, in a new session; afterwards all processes that it started are killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TORCHRUN = Path(sys.executable).with_name("torchrun")
SWEEP = Path(__file__).with_name("faulty_sweep.py")
END_S = 120.0


@dataclass(frozen=True)
class Launch:
    """Running torchrun; the output of it and its processes goes to a file."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> str:
        """Wait for the end of torchrun; return all output."""
        self.process.wait(timeout=END_S)
        return self.log.read_text()

    def until(self, happens: Callable[[], bool]) -> None:
        """Wait until a condition holds that torchrun fulfils long before it ends."""
        deadline = time.monotonic() + END_S
        while not happens():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def keeper(self, local_rank: int) -> int:
        """Return the process that torchrun started for one of its ranks."""
        wanted = f"LOCAL_RANK={local_rank}".encode()
        return next(
            pid
            for pid in children(self.process.pid)
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        )

    def everyone(self) -> set[int]:
        """Return all processes that torchrun started, and all their descendants."""
        found, ask = set[int](), [self.process.pid]
        while ask:
            new = children(ask.pop())
            found |= new
            ask += new
        return found


def children(pid: int) -> set[int]:
    answer = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return {int(child) for child in answer.stdout.split()}


@contextmanager
def torchrun(
    log: Path, arguments: Sequence[str | Path], start: Callable[..., list[str]] = lambda *command: list(command)
) -> Iterator[Launch]:
    """Start torchrun by the command that ``start`` returns; kill what is left of it afterwards."""
    command = start(TORCHRUN, *arguments)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, cwd=log.parent
        )
    launch = Launch(process, log)
    try:
        yield launch
    finally:
        left = launch.everyone()
        process.kill()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def until(happens: Callable[[], bool], seconds: float = END_S) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
