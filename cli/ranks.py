"""A verb that torchrun started: rank 0 does what the verb does, the other processes lend it their workers."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING

import typer

from .errors import COULD_NOT

if TYPE_CHECKING:
    from ..execution.workers.torchrun import TorchrunSession
    from ..execution.workers.worker_group import WorkerProvider


@contextmanager
def workplace() -> Iterator[WorkerProvider]:
    """Where the workers are to be had: on this machine, or one from each process that torchrun started.

    Of these only rank 0's comes back from here; the others leave with its exit code.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        from ..execution.workers.worker_group import LOCAL_WORKERS

        yield LOCAL_WORKERS
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what torchrun ends its processes with
    with _session().lead() as crew:
        exit_code = COULD_NOT
        try:
            yield crew
            exit_code = 0
        except typer.Exit as leaving:
            exit_code = leaving.exit_code
            raise
        finally:
            _stay_to_the_end()
            crew.leave(exit_code)


def _session() -> TorchrunSession:
    """The session of all processes, on rank 0."""
    from ..execution.workers.torchrun import Launched, TorchrunSession
    from ..execution.workers.worker import WorkerError
    from ..results.record.environment import commit

    me = Launched.from_environment()
    claims = {
        "moebench": metadata.version("moebench"),
        "commit": commit(),
        "torch": metadata.version("torch"),
        "processes per machine": str(me.local_world),
        "command line": shlex.join(sys.argv[1:]),
    }
    try:
        session = TorchrunSession.join(me, claims)
        if me.rank == 0:
            return session
        exit_code = session.keep()
        _stay_to_the_end()
        raise typer.Exit(exit_code)
    except KeyboardInterrupt:
        raise typer.Exit(COULD_NOT) from None
    except WorkerError as error:
        if me.local_rank == 0:
            raise  # one process of each machine says it
        raise typer.Exit(COULD_NOT) from error


def _stay_to_the_end() -> None:
    """Leave with the exit code that was agreed on: torchrun ends the others when one has left with another than 0."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
