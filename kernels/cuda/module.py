"""CUDA C++ of this folder through CuPy: compiled by NVRTC at its first use, launched on torch's current stream.

The first use of a kernel on a device compiles and loads it, which a CUDA graph cannot capture: warm up before that.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

OPTIONS = ("--std=c++17",)
"""Options of the compiler besides the architecture."""

SHARED_BYTES = 96 << 10
"""Shared memory that a block may ask for; every GPU since Ampere has it."""

Argument = Tensor | np.int32 | np.int64 | None
"""What a kernel is given: a tensor by its address, a number by its value, None as a null pointer."""


def source(file: str) -> str:
    """The text of ``file``.cu."""
    return Path(__file__).with_name(f"{file}.cu").read_text(encoding="utf-8")


def usable(tensor: Tensor) -> bool:
    """Whether kernels of this folder can take ``tensor``: on an NVIDIA GPU since Ampere, which CuPy finds too."""
    if not tensor.is_cuda or torch.version.hip is not None or not _cupy_finds_a_gpu():
        return False
    return torch.cuda.get_device_capability(tensor.device) >= (8, 0)


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


def _value(argument: Argument) -> np.int32 | np.int64:
    if argument is None:
        return np.int64(0)
    return np.int64(argument.data_ptr()) if isinstance(argument, Tensor) else argument


def _cupy() -> Any:
    return importlib.import_module("cupy")


@cache
def _cupy_finds_a_gpu() -> bool:
    try:
        return bool(_cupy().cuda.is_available())
    except ImportError:
        return False


@cache
def _module(file: str) -> Any:
    return _cupy().RawModule(code=source(file), options=OPTIONS)


@cache
def _function(file: str, kernel: str, device: int) -> Any:  # noqa: ARG001  # the attribute is set on each device
    function = _module(file).get_function(kernel)
    function.max_dynamic_shared_size_bytes = SHARED_BYTES
    return function


class _Pointer(NamedTuple):
    """A stream of torch's as CuPy asks for one."""

    address: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address


@cache  # and so never collected: CuPy destroys the stream with its wrapper, although it is torch's
def _stream(device: int, address: int) -> Any:  # noqa: ARG001  # CuPy's wrapper belongs to the current device
    return _cupy().cuda.Stream.from_external(_Pointer(address))
