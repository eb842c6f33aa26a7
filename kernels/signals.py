"""Starting child processes safely: no signal that stops the command interrupts the start, and none reaches a child."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Final

STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_PDEATHSIG: Final = 1  # the option of Linux's prctl
_PRCTL: Final = getattr(ctypes.CDLL(None), "prctl", None)  # looked up before a fork, after which nothing may be loaded


@atexit.register  # after multiprocessing's own, which therefore comes later: it waits for what SIGTERM should end
def _end_children() -> None:
    """Kill the children that are still there when this process ends."""
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def end_with_parent() -> None:
    """Ask Linux for a SIGTERM to this process when the thread that started it ends, however it ends.

    It is what a command calls that was started as another program, between fork and exec (``preexec_fn``).
    """
    if _PRCTL is not None:
        _PRCTL(_PDEATHSIG, signal.SIGTERM)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer what stops the command while child processes are started inside the block; it never reaches them.

    A KeyboardInterrupt in the middle of a start would leave a process that nothing keeps track of, and that fails when
    its pipe breaks. A terminal, systemd and a batch system signal every process: a child that ended by itself would
    look as if what it measures had crashed. Children end with this process instead.
    """
    resource_tracker.ensure_running()  # which would unblock some before the first child inherits the mask
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # children inherit the mask, before they run anything
    try:
        with _held_back():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def _held_back() -> Iterator[None]:
    """Collect the signals in the main thread: other threads, torch's among them, may receive them on its behalf."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        held.append(number)

    before = {number: signal.signal(number, hold) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])
