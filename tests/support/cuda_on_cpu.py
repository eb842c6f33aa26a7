"""CUDA sources built for the CPU through ``cuda_on_cpu.h``, and launched there as CuPy would on a GPU."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moebench.kernels.cuda import nvrtc
from moebench.kernels.cuda.nvrtc import Argument

Machine = Callable[[int], AbstractContextManager[torch.device]]
"""Given a seed for the order of threads: a stretch in which kernels run, with the device for their tensors."""

SOURCES = sorted(path.stem for path in Path(nvrtc.__file__).parent.glob("*.cu"))
GUARD = 64
OUTCOMES = ["done", "threads wait for each other for ever", "a write behind the shared memory", "wrong arguments"]


def kernels_of(file: str) -> list[str]:
    """Return the names of the kernels in ``file``.cu."""
    return re.findall(r"__global__ void __launch_bounds__\(\d+\)\s+(\w+)\(", nvrtc.source(file))


def build(folder: Path, compiler: str) -> dict[str, ctypes.CDLL]:
    """Build every source as a library for the CPU; return the libraries by name."""
    libraries = {}
    for file in SOURCES:
        text = ['#include "cuda_on_cpu.h"', f'#include "{file}.cu"', *(f"EXPORT({name})" for name in kernels_of(file))]
        (folder / f"{file}.cpp").write_text("\n".join(text) + "\n")
        includes = [f"-I{Path(__file__).parent}", f"-I{Path(nvrtc.__file__).parent}"]
        command = [compiler, "-std=c++17", "-O1", "-shared", "-fPIC", *includes, f"{file}.cpp", "-o", f"{file}.so"]
        subprocess.run(command, check=True, cwd=folder)
        libraries[file] = ctypes.CDLL(str(folder / f"{file}.so"))
    return libraries


class Guarded:
    """Bytes of an argument for a kernel; a tensor is copied between guards, and back when they are intact."""

    def __init__(self, argument: Argument) -> None:
        self.tensor = argument if isinstance(argument, Tensor) else None
        if argument is None:
            self.value: np.generic = np.uint64(0)
        elif isinstance(argument, Tensor):
            assert argument.is_contiguous()
            guard = torch.ones(GUARD, dtype=argument.dtype)
            self.copy = torch.cat((guard, argument.flatten(), guard))
            self.value = np.uint64(self.copy[GUARD:].data_ptr())
        else:
            self.value = argument
        self.cell = np.array([self.value])

    def check_and_copy_back(self) -> None:
        if self.tensor is not None:
            before, inside, after = self.copy.split((GUARD, self.tensor.numel(), GUARD))
            assert (before == 1).all(), "a write before a tensor"
            assert (after == 1).all(), "a write behind a tensor"
            self.tensor.copy_(inside.view_as(self.tensor))


def launcher(libraries: dict[str, ctypes.CDLL], seed: int) -> Callable[..., None]:
    """Return a function that launches kernels on the CPU in place of `module.launch`."""

    def launch(
        file: str, kernel: str, *arguments: Argument, device: torch.device, grid: int, threads: int, shared: int = 0
    ) -> None:
        assert device.type == "cpu"
        assert 0 < grid < 2**31
        assert 0 < threads <= 1024
        assert shared <= nvrtc.SHARED_BYTES
        given = [Guarded(argument) for argument in arguments]
        cells = (ctypes.c_void_p * len(given))(*(one.cell.ctypes.data for one in given))
        sizes = (ctypes.c_size_t * len(given))(*(one.cell.itemsize for one in given))
        outcome = libraries[file][f"run_{kernel}"](grid, threads, shared, seed, cells, sizes, len(given))
        assert outcome == 0, f"{kernel}: {OUTCOMES[outcome]}"
        for one in given:
            one.check_and_copy_back()

    return launch
