"""A signal that stops a command while children are started is deferred, and never reaches the children."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from moebench.kernels.signals import STOPS, uninterrupted


def interrupted(thread: threading.Thread, stood: list[str], number: int = signal.SIGINT) -> None:
    """Send a signal while processes are started, received by a thread of this process."""
    with uninterrupted():
        signal.pthread_kill(thread.ident or 0, number)
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_stops_are_deferred_too(number: signal.Signals) -> None:
    stood: list[str] = []
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted(threading.current_thread(), stood, number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert stood


FIRST_CHILD = """
import multiprocessing, os, sys
from moebench.kernels.signals import STOPS, uninterrupted

def answer(connection):
    connection.send("alive")
    connection.poll(None)  # until it is killed: the parent does not close its end

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=answer, args=(there,), daemon=True)
    with uninterrupted():
        process.start()
    for number in STOPS:  # long before the child has run a line of ours
        os.kill(process.pid, number)
    print(here.recv())
    for number in STOPS:
        os.kill(process.pid, number)
    process.join(0.1)
    print(process.is_alive())
"""


def test_no_stop_reaches_a_child_from_its_first_moment_and_it_ends_with_its_parent(tmp_path: Path) -> None:
    """Python's resource tracker, which starts with the first child, unblocks some of them."""
    script = tmp_path / "first.py"
    script.write_text(FIRST_CHILD)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "alive\nTrue\n"


@pytest.mark.parametrize("number", STOPS)
def test_what_is_started_meanwhile_never_receives_it(number: signal.Signals) -> None:
    blocked = f"import signal; print({number:d} in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    with uninterrupted():
        answer = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=True)
    assert answer.stdout == "True\n"
