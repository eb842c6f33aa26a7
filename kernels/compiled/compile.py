"""Kernels compiled for a GPU that is not there: layers are called on tensors without memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget

from ..catalog import unknown
from ..gpu.hardware import HARDWARE, Hardware, assuming
from ..gpu.launch import INTERPRETED, Launch, recording
from ..gpu.occupancy import ROOM, Room
from ..kernel import Config, Kernel
from ..problem import Problem
from ..routing import Routing
from ..tensors import TORCH_DTYPES, Weights, token_dtype
from .machine_code import Figures, figures

META = torch.device("meta")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A GPU to compile for: its ``name``, and how Triton calls it."""

    name: str
    gpu: GPUTarget

    @property
    def hardware(self) -> Hardware:
        """What configurations ask of it."""
        return HARDWARE[self.name]

    @property
    def room(self) -> Room:
        """What its processors hold."""
        return ROOM[self.name]

    @staticmethod
    def named(name: str) -> Target:
        """The target of that name.

        Raises:
            UnknownName: with the nearest names.
        """
        if name not in HARDWARE:
            raise unknown("target", name, list(HARDWARE))
        if HARDWARE[name].maker == "amd":
            return Target(name=name, gpu=GPUTarget("hip", name, 64))
        return Target(name=name, gpu=GPUTarget("cuda", int(name.removeprefix("sm_")), 32))


def launches(kernel: Kernel, problem: Problem, config: Config, target: Target) -> list[Launch]:
    """The launches of one call of a layer as it would be built for ``target``; in training, of its backward too."""
    held, read = TORCH_DTYPES[problem.dtype], token_dtype(problem)
    trained = problem.mode == "train"

    def operand(*shape: int, dtype: torch.dtype = read) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=META, requires_grad=trained and dtype.is_floating_point)

    T, D, F, E, K, U = problem.T, problem.D, problem.F, problem.E, problem.K, problem.U
    x_TD = operand(T, D)
    routing = Routing(ids_TK=operand(T, K, dtype=torch.int32), gates_TK=operand(T, K, dtype=torch.float32), experts=E)
    weights = Weights(
        w_up_EUD=operand(E, U, D, dtype=held),
        w_down_EDF=operand(E, D, F, dtype=held),
        b_up_EU=operand(E, U) if problem.bias else None,
        b_down_ED=operand(E, D) if problem.bias else None,
        s_up_EU=operand(E, U, dtype=torch.float32) if problem.quantised else None,
        s_down_ED=operand(E, D, dtype=torch.float32) if problem.quantised else None,
    )
    with assuming(target.hardware), recording() as written:
        y_TD = kernel.build(problem, config, META)(x_TD, routing, weights)
        if trained:
            y_TD.backward(torch.empty_like(y_TD))
    return written


def compile_launch(launch: Launch, target: Target) -> Figures:
    """What the machine code of a launch says.

    Raises:
        RuntimeError: when Triton interprets kernels in this process.
        Exception: whatever the compiler raises when it cannot compile.
    """
    if INTERPRETED:
        raise RuntimeError("Triton interprets kernels in this process: unset TRITON_INTERPRET to compile them")
    with _driver_of(target):
        compiled = launch.kernel.warmup(
            *launch.arguments, grid=(launch.programs,), **launch.options, **launch.constants
        )
    return figures(compiled, target.room)


class _Driver:
    """As much of a Triton driver as compiling asks for."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def get_current_target(self) -> GPUTarget:
        return self._target.gpu

    def get_current_device(self) -> str:
        # Triton keeps what it compiled by device.
        return self._target.name

    def get_current_stream(self, device: str) -> int:
        return 0


@contextmanager
def _driver_of(target: Target) -> Iterator[None]:
    """Let Triton believe that ``target`` is here."""
    driver = triton.runtime.driver
    before = driver._active  # noqa: SLF001  # asking for `active` would look for a GPU, and fail without one
    driver.set_active(_Driver(target))
    try:
        yield
    finally:
        driver._active = before  # noqa: SLF001  # set_active takes no None
