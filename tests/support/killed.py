"""A worker that is killed from outside while a competitor's code runs."""

from __future__ import annotations

import os
import signal
import threading
import time

from moebench.execution.trial.task import NOBODY
from moebench.execution.workers.local_worker import LocalWorker

LIMIT_S = 60.0


def kill_while_measuring(worker: LocalWorker) -> None:
    """Start a thread that kills the worker as soon as the code of a competitor runs in it."""

    def kill() -> None:
        deadline = time.monotonic() + LIMIT_S
        while worker._heartbeat[0] == NOBODY and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(worker.pid, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
