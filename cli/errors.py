"""Errors of users, reported in one line with exit code 2; anything else is a bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from ..common.errors import UserError
from .screen import complain

BAD_ANSWER = 1
COULD_NOT = 2


def refuse(reason: str) -> NoReturn:
    """Print the reason to stderr and exit with code 2."""
    complain(reason)
    raise typer.Exit(COULD_NOT)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn the errors that name a value and a remedy into a message and exit code 2."""
    try:
        yield
    except UserError as error:
        complain(error)
        raise typer.Exit(COULD_NOT) from error
