"""Compilation for a GPU that this machine need not have: layers are called on tensors without memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import triton
from triton.backends.compiler import GPUTarget

from ...common.names import unknown
from ..config import Config
from ..hardware.device_limits import assuming
from ..hardware.gpus import HARDWARE, PROCESSORS, Hardware
from ..hardware.occupancy import ProcessorLimits
from ..kernel import Kernel
from ..problem import Problem
from ..problem.tensors import without_values
from ..triton.launch import INTERPRETED, Launch, recording
from .machine_code import CodeCounters, CodeReader, all_counters

META = torch.device("meta")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A GPU to compile for: its ``name``, its name in Triton, and its limits."""

    name: str
    gpu: GPUTarget
    hardware: Hardware

    @property
    def room(self) -> ProcessorLimits:
        """Limits of one of its processors."""
        return PROCESSORS[self.name]

    @staticmethod
    def named(name: str) -> Target:
        """Return the target of that name.

        Raises:
            UnknownName: with the nearest names.
        """
        if name not in HARDWARE:
            raise unknown("target", name, list(HARDWARE))
        amd = HARDWARE[name].maker == "amd"
        gpu = GPUTarget("hip", name, 64) if amd else GPUTarget("cuda", int(name.removeprefix("sm_")), 32)
        return Target(name=name, gpu=gpu, hardware=HARDWARE[name])


def launches(kernel: Kernel, problem: Problem, config: Config, target: Target) -> list[Launch]:
    """Return the launches of one call of a layer built for ``target``; in training, of its backward pass too."""
    inputs = without_values(problem)
    if problem.mode == "train":
        inputs.requires_grad_()
    with assuming(target.hardware), recording() as written:
        y_TD = kernel.build(problem, config, META)(inputs.x_TD, inputs.routing, inputs.weights)
        if problem.mode == "train":
            y_TD.backward(inputs.dy_TD)
    return written


def compile_launch(launch: Launch, target: Target, read: CodeReader = all_counters) -> CodeCounters:
    """Compile a launch and count what is in its machine code. Triton caches the code on disk.

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
    return read(compiled, target.room)


class _Driver:
    """The part of a Triton driver that compiling uses."""

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
    """Make Triton compile for ``target``, as if it were this machine's GPU."""
    driver = triton.runtime.driver
    before = driver._active  # noqa: SLF001  # asking for `active` would look for a GPU, and fail without one
    driver.set_active(_Driver(target))
    try:
        yield
    finally:
        driver._active = before  # noqa: SLF001  # set_active takes no None
