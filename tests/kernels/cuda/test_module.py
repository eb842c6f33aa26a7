"""Every CUDA source compiles for every generation without a GPU, with the options that CuPy gives."""

from __future__ import annotations

import pytest
import torch
from cuda_on_cpu import SOURCES, kernels_of

from moebench.kernels.cuda import module


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
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
