"""Settings made before anything is imported, for the tests and the processes that they start.

Without a GPU, Triton kernels run in Triton's interpreter. No test sees the user's own tuned tables or rates. Idle
threads sleep, and NumPy has none: those of several test processes would otherwise keep each other from working. Nor do
tests wait for a quiet machine. Nothing that is printed into a pipe is broken at the width of the terminal that pytest
runs in.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Generator
from importlib.util import find_spec

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's: they do not sleep, small solves took four times as long
os.environ["MOEBENCH_BUSY_MACHINE"] = "1"
os.environ.pop("COLUMNS", None)
os.unsetenv("COLUMNS")  # readline, which pytest imports, sets it where `os.environ` does not show it

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    if find_spec("triton"):
        import quick_interpreter

        quick_interpreter.install()
os.environ["MOEBENCH_TUNED"] = os.path.join(tempfile.gettempdir(), "moebench-tests-have-no-tables")  # noqa: PTH118
os.environ["MOEBENCH_RATES"] = ""  # none are read, and none are measured to be kept

pytest_plugins = ["one_command", "kept_environment", "quick_start", "rotating_part"]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without looking for garbage, which took a fifth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
