"""A verb that torchrun started: rank 0 executes the verb, the other processes provide it with workers."""

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
    from ..execution.workers.torchrun import Torchrun, TorchrunSession


@contextmanager
def launched_workers() -> Iterator[Torchrun | None]:
    """Yield the workers of the processes that torchrun started; None where torchrun did not start this process.

    The block runs on rank 0 only; the other processes serve it and leave with its exit code.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield None
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what torchrun ends its processes with
    with _session().lead() as torchrun:
        exit_code = COULD_NOT
        try:
            yield torchrun
            exit_code = 0
        except typer.Exit as leaving:
            exit_code = leaving.exit_code
            raise
        finally:
            _stay_to_the_end()
            torchrun.leave(exit_code)


def _session() -> TorchrunSession:
    """Join the session of all processes; only rank 0 returns."""
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
        exit_code = session.serve()
        _stay_to_the_end()
        raise typer.Exit(exit_code)
    except KeyboardInterrupt:
        raise typer.Exit(COULD_NOT) from None
    except WorkerError as error:
        if me.local_rank == 0:
            raise  # one process of each machine reports it
        raise typer.Exit(COULD_NOT) from error


def _stay_to_the_end() -> None:
    """Ignore SIGTERM, so that all leave with one exit code: torchrun ends the others when one left with a failure."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
