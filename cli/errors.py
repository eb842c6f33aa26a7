"""What a user did wrong, said in one line with exit code 2; anything else is a bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

BAD_ANSWER = 1
COULD_NOT = 2


def refuse(reason: str) -> NoReturn:
    """Say why it could not be done, and leave."""
    typer.echo(f"moebench: {reason}", err=True)
    raise typer.Exit(COULD_NOT)


@contextmanager
def told() -> Iterator[None]:
    """Turn the errors that name a value and a remedy into a message and exit code 2."""
    from ..autotune.search.space import NoConfiguration
    from ..autotune.tables.export import NotExportable
    from ..autotune.tables.serving import ServingError
    from ..execution.workers.executor import ExecutorError
    from ..execution.workers.worker import WorkerError
    from ..kernels.catalog import UnknownName
    from ..kernels.optional import Unusable
    from ..kernels.problem import InvalidProblem
    from ..kernels.problem.trace import InvalidTrace
    from ..results.counters import CountersError
    from ..results.pytest_benchmark import BenchmarkError
    from ..results.record.store import StoreError
    from ..suites.gate.checkouts import GateError
    from ..suites.prediction.machine import InvalidMachine
    from ..suites.suite import CannotTime

    try:
        yield
    except (
        BenchmarkError,
        CannotTime,
        ExecutorError,
        CountersError,
        GateError,
        InvalidMachine,
        InvalidProblem,
        InvalidTrace,
        NoConfiguration,
        NotExportable,
        ServingError,
        StoreError,
        UnknownName,
        Unusable,
        WorkerError,
    ) as error:
        typer.echo(f"moebench: {error}", err=True)
        raise typer.Exit(COULD_NOT) from error
