"""Quick starts: processes that are forks of one that has imported torch and our kernels, once a session.

They see torch before they choose their cores, and those that are spawned the environment of the first test that asked:
this is not for tests of either.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

IMPORTED = ("moebench.kernels.compiler.compilers", "moebench.execution.workers.rank_setup")
SECONDS = 120


def server() -> ForkServerContext:
    """Return the context whose processes start at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


@contextmanager
def quickly_spawned() -> Iterator[None]:
    """Let every process that is to be spawned start at once."""
    context = server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda _: context)
        yield


@pytest.fixture(scope="module")
def quick_start() -> Iterator[None]:
    """Let every process of the module's tests that is to be spawned start at once."""
    with quickly_spawned():
        yield


def python_m(
    *command: str, cwd: Path, env: Mapping[str, str] | None = None, seconds: float = SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m`` with these words, which may spawn too; return what it printed and how it ended."""
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / stream for stream in ("stdout", "stderr")]
        process = server().Process(target=_run, args=(command, cwd, dict(env or os.environ), files))
        process.start()
        process.join(seconds)
        process.kill()
        process.join()
        assert process.exitcode is not None
        return subprocess.CompletedProcess(command, process.exitcode, *(file.read_text() for file in files))


def _run(command: tuple[str, ...], cwd: Path, env: Mapping[str, str], files: list[Path]) -> None:
    for number, file in enumerate(files, start=1):
        with file.open("w") as opened:
            os.dup2(opened.fileno(), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[:] = command
    with quickly_spawned():
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
