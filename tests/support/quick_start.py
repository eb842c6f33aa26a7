"""Fixture ``quick_start``: spawned processes are forks of one that has imported torch and our kernels, once a session.

They see the environment of the first test that asked for it, and torch before they choose their cores: no fixture for
tests of either.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest

IMPORTED = ("moebench.kernels.compiler.compilers", "moebench.execution.workers.rank_setup")


@pytest.fixture(scope="module")
def quick_start() -> Iterator[None]:
    """Let every process of the module's tests that is to be spawned start at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda _: context)
        yield
