"""How often this process was stopped and continued from outside."""

from __future__ import annotations

import signal


class _Counter:
    """Handler of the signal that lets a stopped process go on."""

    times = 0

    def __call__(self, *_: object) -> None:
        self.times += 1


_counter = _Counter()


def times_continued() -> int:
    """Return how often a stopped process went on, since the first call; 0 where that was not in the main thread.

    The handler runs as soon as the call that the signal interrupted has returned to Python.
    """
    if signal.getsignal(signal.SIGCONT) is not _counter:
        try:
            signal.signal(signal.SIGCONT, _counter)
        except ValueError:  # only the main thread may set a handler
            return _counter.times
        signal.siginterrupt(signal.SIGCONT, False)  # collectives must not see their calls to the system interrupted
    return _counter.times
