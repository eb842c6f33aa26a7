"""Compilation of the default configurations to be measured, on all cores, into the cache that workers read."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from ....common.cores import usable_cores
from ....kernels.catalog import KERNELS
from ....kernels.compiler.compilers import Compilers
from ....kernels.compiler.survey import CompileCase, CompileOutcome, compiled_kernels, unable
from ....kernels.config import Config
from ....kernels.hardware.device_limits import assuming, hardware
from ....kernels.hardware.gpus import HARDWARE, Hardware
from ....kernels.problem import Problem
from ..forms import form

TARGET = "sm_90"  # compiled for where there is no GPU


def main() -> None:
    """Read the arguments, form and JSON file to write, and compile. Exit code 1: some layer does not compile."""
    name, path = sys.argv[1:]
    if reason := unable():
        sys.exit(reason)
    started = time.perf_counter()
    work = cases(layers(form(name).precompiled))
    outcomes = compiled(work)
    failures = {f"{one.case.kernel} {one.case.problem.key}": one.error for one in outcomes if one.error}
    found = {
        "target": gpu().target,
        "layers": len(outcomes),
        "launches": sum(len(one.launches) for one in outcomes),
        "spilt": sum(code.spill_bytes > 0 for one in outcomes for code in one.launches.values()),
        "processes": len(usable_cores()),
        "seconds": round(time.perf_counter() - started, 1),
        "failures": failures,
    }
    Path(path).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))  # noqa: T201  # the log
    sys.exit(int(bool(failures)))


def layers(problems: Iterable[Problem]) -> list[tuple[str, Problem]]:
    """Return each Triton kernel paired with each problem that it supports on the present device."""
    device = here()
    return [
        (name, problem)
        for problem in problems
        for name in compiled_kernels()
        if KERNELS.load(name).supports(problem, device) is None
    ]


def cases(supported: Iterable[tuple[str, Problem]]) -> list[CompileCase]:
    """Return the case of each layer's default configuration on the present GPU, or on its stand-in."""
    with assuming(gpu()):
        return [case(name, problem, KERNELS.load(name).space(problem, here())[0]) for name, problem in supported]


def case(kernel: str, problem: Problem, config: Config) -> CompileCase:
    """Return the case of one configuration, compiled for the present GPU or for its stand-in."""
    return CompileCase(kernel=kernel, model="", problem=problem, config=config, target=gpu().target, hardware=gpu())


def here() -> torch.device:
    """Return the GPU; without one, the meta device, on which launches are recorded.

    Where Triton interprets kernels, this is the CPU, and nothing is compiled.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu" if unable() else "meta")


def gpu() -> Hardware:
    """Return the GPU to compile for: the present one, or the stand-in ``TARGET``."""
    return hardware(here()) if torch.cuda.is_available() else HARDWARE[TARGET]


def compiled(work: Sequence[CompileCase]) -> list[CompileOutcome]:
    """Compile cases on all cores into the cache that Triton reads in every process; return the outcomes."""
    with Compilers(len(usable_cores())) as compilers:
        return list(compilers.compile(work))


if __name__ == "__main__":
    main()
