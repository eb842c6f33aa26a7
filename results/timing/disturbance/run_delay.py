"""How long the threads of this process waited for a core, in nanoseconds, as Linux counts it for every thread."""

from __future__ import annotations

import os
from pathlib import Path

_TASKS = Path("/proc/self/task")


class RunDelays:
    """The run delay of every thread of this process: the time that it could have run and had no core.

    ``unread`` says why there is none. The files stay open: reading one again takes a microsecond, opening it ten.
    """

    def __init__(self, tasks: Path = _TASKS) -> None:
        self._tasks = tasks
        self._files: dict[str, int] = {}
        self.unread = self.refresh() or ("" if self.read() else f"{tasks} has no counts of any thread")

    def refresh(self) -> str:
        """Find the threads that are new; return why none can be read, or nothing."""
        try:
            threads = {task.name for task in self._tasks.iterdir()}
        except OSError as error:
            return f"{error.strerror}: {self._tasks}"
        for thread in self._files.keys() - threads:
            os.close(self._files.pop(thread))
        for thread in threads - self._files.keys():
            try:
                self._files[thread] = os.open(self._tasks / thread / "schedstat", os.O_RDONLY)
            except OSError as error:  # the thread has just ended, or the system keeps no such counts
                if error.filename and not self._files and thread == str(os.getpid()):
                    return f"{error.strerror}: {error.filename}"
        return ""

    def read(self) -> dict[str, int]:
        """Return the nanoseconds that each thread has waited since it started."""
        found = {}
        for thread, file in self._files.items():
            try:
                found[thread] = int(os.pread(file, 128, 0).split()[1])
            except (OSError, IndexError, ValueError):  # the thread has ended, or the system counts nothing
                continue
        return found

    def __del__(self) -> None:
        for file in self._files.values():
            os.close(file)


def longest(before: dict[str, int], after: dict[str, int]) -> int:
    """Return the nanoseconds that the thread which waited longest between two readings did wait."""
    return max((waited - before.get(thread, waited) for thread, waited in after.items()), default=0)
