"""CUDA C++ of this folder through CuPy: compiled by NVRTC at its first use, launched on torch's current stream.

The first use of a kernel on a device compiles and loads it, which a CUDA graph cannot capture: warm up before that.
"""

from __future__ import annotations

import importlib
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...common.packages import Unusable, use
from ..instruments.launch_counter import launched

OPTIONS = ("--std=c++17",)
"""Options of the compiler besides the architecture."""

SHARED_BYTES = 96 << 10
"""Shared memory that a block may ask for; every GPU since Ampere has it."""

Argument = Tensor | np.int32 | np.int64 | np.float64 | None
"""What a kernel is given: a tensor by its address, a number by its value, None as a null pointer."""


def source(file: str) -> str:
    """Return the text of ``file``.cu."""
    return Path(__file__).with_name(f"{file}.cu").read_text(encoding="utf-8")


def usable(tensor: Tensor) -> bool:
    """Return whether kernels of this folder can take ``tensor``; where not, operators of torch order the routes."""
    return tensor.is_cuda and refusal(tensor.device.index) is None


@cache  # a second try would fail in the same way and take as long
def refusal(device: int) -> str | None:
    """Return why kernels of this folder cannot run on that CUDA device, or None. Compiles all of them."""
    if torch.version.hip is not None:
        return "the CUDA sources are for NVIDIA's GPUs, torch is built for AMD's"
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        return "the CUDA sources need compute capability 8.0, the device has {}.{}".format(*capability)
    try:
        use("cupy", partial(_compile_all, device), remedy="pip install 'moebench[gpu]', built for this CUDA")
    except Unusable as error:
        return str(error)
    return None


def ordering(device: torch.device) -> tuple[str | None, str]:
    """Return the version of CuPy that runs kernels of this folder, or None, and a name for what orders routes.

    Where the kernels cannot run, operators of torch order the routes: about 25 launches instead of two.
    """
    if device.type != "cuda":
        return None, "torch"
    reason = refusal(device.index)
    return (str(_cupy().__version__), "CUDA") if reason is None else (None, f"torch: {reason}")


def _compile_all(device: int) -> None:
    """Compile everything: GPU, compiler and driver may each not fit CuPy although its import succeeds."""
    with _cupy().cuda.Device(device):
        for file in sorted(Path(__file__).parent.glob("*.cu")):
            _module(file.stem).compile()


def launch(
    file: str, kernel: str, *arguments: Argument, device: torch.device, grid: int, threads: int, shared: int = 0
) -> None:
    """Start ``grid`` blocks of ``threads`` threads of a kernel of ``file``.cu, with ``shared`` bytes for each block.

    Tensors must be contiguous and on ``device``, which has an index as the device of every tensor has.
    """
    index = device.index
    values = tuple(_value(argument) for argument in arguments)
    with _cupy().cuda.Device(index):
        function = _function(file, kernel, index)
        with _stream(index, torch.cuda.current_stream(index).cuda_stream):
            function((grid,), (threads,), values, shared_mem=shared)
    launched(kernel)


def _value(argument: Argument) -> np.int32 | np.int64 | np.float64:
    if argument is None:
        return np.int64(0)
    return np.int64(argument.data_ptr()) if isinstance(argument, Tensor) else argument


def _cupy() -> Any:
    return importlib.import_module("cupy")


@cache
def _module(file: str) -> Any:
    return _cupy().RawModule(code=source(file), options=OPTIONS)


@cache
def _function(file: str, kernel: str, device: int) -> Any:  # noqa: ARG001  # the attribute is set on each device
    function = _module(file).get_function(kernel)
    function.max_dynamic_shared_size_bytes = SHARED_BYTES
    return function


class _Pointer(NamedTuple):
    """A stream of torch, in the form that CuPy asks for."""

    address: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address


@cache  # and so never collected: CuPy destroys the stream with its wrapper, although it is torch's
def _stream(device: int, address: int) -> Any:  # noqa: ARG001  # CuPy's wrapper belongs to the current device
    return _cupy().cuda.Stream.from_external(_Pointer(address))
