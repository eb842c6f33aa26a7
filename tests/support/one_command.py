"""Plugin of pytest that builds the command of an app once: typer does so in each call, for most of a short one."""

from __future__ import annotations

import functools

import pytest
import typer.testing


@pytest.fixture(autouse=True, scope="session")
def built_once() -> None:
    name = "_get_command"  # what `CliRunner` calls; where typer names it otherwise, tests only take longer
    if build := getattr(typer.testing, name, None):
        setattr(typer.testing, name, functools.cache(build))
