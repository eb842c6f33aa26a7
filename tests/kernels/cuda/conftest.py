"""Fixtures that run CUDA sources on a GPU, or on the CPU in its place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from cuda_on_cpu import Machine, build, launcher

from moebench.kernels.cuda import nvrtc


@pytest.fixture(scope="session", params=["cpu", "gpu"])
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Run a test on a GPU through CuPy, and on the CPU through fibres."""
    if request.param == "gpu":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        pytest.importorskip("cupy")
        return lambda _: nullcontext(torch.device("cuda"))
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to build the CUDA sources for the CPU")
    libraries = build(tmp_path_factory.mktemp("cuda_on_cpu"), compiler)

    @contextmanager
    def on_cpu(seed: int) -> Iterator[torch.device]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nvrtc, "launch", launcher(libraries, seed))
            patch.setattr(nvrtc, "usable", lambda _: True)
            yield torch.device("cpu")

    return on_cpu
