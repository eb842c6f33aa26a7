"""A simulated GPU for Triton to launch on: kernels are compiled or found in its cache, and never run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
import triton

from moebench.execution.trial.reference_check import call
from moebench.kernels.catalog import KERNELS
from moebench.kernels.compiler.compile import Target
from moebench.kernels.compiler.compilers import Compilers
from moebench.kernels.compiler.machine_code import resources
from moebench.kernels.compiler.survey import CompileCase
from moebench.kernels.cuda import nvrtc
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.problem import Problem
from moebench.kernels.problem.tensors import draw_inputs, draw_weights

CPU = torch.device("cpu")
H100_PCIE = replace(HARDWARE["sm_90"], processors=114)
SMALL = Problem(T=64, D=128, F=64, E=4, K=2, dtype="bfloat16")
PROBLEMS = [
    ("triton_scatter", SMALL),
    ("triton_scatter", SMALL.replace(T=50, E=6, mode="train", bias=True)),
    ("triton_scatter", SMALL.replace(T=1, K=1, D=100, F=72, dtype="float16")),
    ("triton_padded", SMALL.replace(T=7, E=5, dtype="float8_e4m3fn", capacity_factor=1.0)),
    ("triton_block_sparse", SMALL.replace(E=3, mode="train")),
]


class Driver:
    """Driver with the parts that a launch asks for."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.utils = self

    def get_current_target(self) -> Any:
        return self._target.gpu

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:  # the signature of the driver of Triton
        return 0

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": self._target.hardware.shared_bytes, "multiprocessor_count": 114}

    def load_binary(self, *_: object) -> tuple[object, object, int, int, int]:
        return object(), object(), 0, 0, 1024

    def launcher_cls(self, *_: object) -> Callable[..., None]:
        return lambda *_, **__: None


@contextmanager
def launching(target: Target) -> Iterator[list[tuple[str, bool]]]:
    """Yield a list that receives the name of each kernel that Triton loads, and whether the cache has its code."""
    seen: list[tuple[str, bool]] = []
    triton.knobs.compilation.listener = lambda **said: seen.append((said["src"].name, said["cache_hit"]))
    triton.runtime.driver.set_active(Driver(target))
    yield seen


def run(case: CompileCase) -> None:
    """Make one call as a trial makes it, on tensors with memory that the kernels do not write."""
    problem = case.problem
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=1, device=CPU)
    if problem.mode == "train":
        inputs.requires_grad_()
    call(problem, KERNELS.load(case.kernel).build(problem, case.config, CPU), inputs)


def cases() -> list[CompileCase]:
    """Return the default configuration for each problem, and for a forward the last one too."""
    found = []
    with assuming(H100_PCIE):
        for name, problem in PROBLEMS:
            kernel = KERNELS.load(name)
            valid = [config for config in kernel.space(problem, CPU) if kernel.valid(problem, config, CPU)]
            found += [
                CompileCase(kernel=name, model="", problem=problem, config=config, target="sm_90", hardware=H100_PCIE)
                for config in (valid[:1] if problem.mode == "train" else [valid[0], valid[-1]])
            ]
    return found


def main() -> None:
    """Compile everything in child processes, then launch it all here, and print what had to be compiled again."""
    work = cases()
    with Compilers(2, resources) as compilers:
        errors = [outcome.error for outcome in compilers.compile(work)]
    with launching(replace(Target.named("sm_90"), hardware=H100_PCIE)) as seen, assuming(H100_PCIE):
        for case in work:
            run(case)
        # Launch as CuPy is installed: the buffers of the routes differ then.
        with patch.object(nvrtc, "usable", lambda _: True), patch.object(nvrtc, "launch"):
            run(work[0])
    sys.stdout.write(json.dumps({"errors": errors, "launched": seen}))


if __name__ == "__main__":
    main()
