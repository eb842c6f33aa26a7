"""Plugin of pytest that gives every test the environment of the one before it: a command may bind its own threads."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def kept_environment() -> Iterator[None]:
    """Undo what code under test has set: processes that later tests start would inherit it."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
