"""Every CUDA source compiles for every generation without a GPU, with the options that CuPy gives."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cuda_on_cpu import SOURCES, kernels_of
from exhaustive import all_but

from moebench.kernels.cuda import nvrtc as module
from moebench.kernels.instruments.launch_counter import count_launches


@pytest.mark.parametrize("architecture", all_but(["sm_90"], ["sm_80", "sm_90", "sm_100"]))
@pytest.mark.parametrize("file", SOURCES)
def test_source_compiles_with_nvrtc(file: str, architecture: str) -> None:
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="needs cuda-bindings and nvidia-cuda-nvrtc")
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:  # the bindings are there, the library is not
        pytest.skip(str(error))
    _, program = nvrtc.nvrtcCreateProgram(module.source(file).encode(), f"{file}.cu".encode(), 0, [], [])
    options = [option.encode() for option in (*module.OPTIONS, f"-arch={architecture}", "-Werror", "all-warnings")]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    log = bytearray(nvrtc.nvrtcGetProgramLogSize(program)[1])
    nvrtc.nvrtcGetProgramLog(program, log)
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    cubin = bytearray(nvrtc.nvrtcGetCUBINSize(program)[1])
    nvrtc.nvrtcGetCUBIN(program, cubin)
    assert kernels_of(file)
    assert all(f".text.{name}\0".encode() in cubin for name in kernels_of(file))


def test_a_cpu_tensor_is_not_for_cuda() -> None:
    assert not module.usable(torch.zeros(1))


class FakeCupy:
    """Fake of the part of CuPy that a launch uses; its kernels do nothing."""

    def __init__(self) -> None:
        self.cuda = SimpleNamespace(
            Device=lambda _: nullcontext(), Stream=SimpleNamespace(from_external=lambda _: nullcontext())
        )

    def RawModule(self, **_: object) -> Any:
        def get_function(_: str) -> Any:
            def kernel(*_: object, shared_mem: int) -> None: ...

            return kernel

        return SimpleNamespace(get_function=get_function)


def test_launches_are_counted_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for cached in (module._module, module._function, module._stream):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=7))
    with count_launches() as counted:
        for kernel in ("count_routes", "place_routes", "place_routes"):
            module.launch("route_sorting", kernel, device=torch.device("cuda", 0), grid=1, threads=32)
    assert counted == {"count_routes": 1, "place_routes": 2}
    for cached in (module._module, module._function, module._stream):
        cached.cache_clear()
