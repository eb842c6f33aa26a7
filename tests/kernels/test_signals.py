"""Ctrl-C while child processes are started is deferred, and never reaches the children."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from moebench.kernels.signals import uninterrupted


def interrupted(thread: threading.Thread, stood: list[str]) -> None:
    """Send Ctrl-C while processes are started, received by a thread of this process."""
    with uninterrupted():
        signal.pthread_kill(thread.ident or 0, signal.SIGINT)
        time.sleep(0.2)  # as soon as the thread runs, it has received the signal
        stood.append("whatever was started")


@pytest.fixture
def other() -> Iterator[threading.Thread]:
    """Start a thread that does not block signals, as those of torch do not."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield thread
    done.set()
    thread.join()


@pytest.mark.parametrize("received_here", [True, False])
def test_ctrl_c_comes_when_everything_stands(other: threading.Thread, *, received_here: bool) -> None:
    stood: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(threading.current_thread() if received_here else other, stood)
    assert stood
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_started_meanwhile_never_receives_it() -> None:
    blocked = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    with uninterrupted():
        answer = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=True)
    assert answer.stdout == "True\n"
