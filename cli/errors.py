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
    from ..autotune.exchange.export import NotExportable
    from ..autotune.exchange.serving import ServingError
    from ..autotune.executor import ExecutorError
    from ..autotune.space import NoConfiguration
    from ..autotune.worker import WorkerError
    from ..kernels.catalog import UnknownName
    from ..kernels.cluster.machine import InvalidMachine
    from ..kernels.optional import Unusable
    from ..kernels.problem import InvalidProblem
    from ..kernels.trace import InvalidTrace
    from ..results.benchmarks import BenchmarkError
    from ..results.figures import FiguresError
    from ..results.store import StoreError
    from ..suites.sides import GateError
    from ..suites.suite import CannotTime

    try:
        yield
    except (
        BenchmarkError,
        CannotTime,
        ExecutorError,
        FiguresError,
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
