"""Starting child processes safely: Ctrl-C neither interrupts the start nor reaches the child."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer Ctrl-C while child processes are started inside the block; the children themselves never receive it.

    A KeyboardInterrupt in the middle of a start would leave a process that nothing keeps track of, and that fails when
    its pipe breaks.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit the mask
    try:
        with _held_back():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def _held_back() -> Iterator[None]:
    """Collect the signal in the main thread: other threads, torch's among them, may receive it on its behalf."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            signal.raise_signal(held[0])
