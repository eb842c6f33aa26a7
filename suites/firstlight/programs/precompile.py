"""Compile the default configurations of what will be measured, with all cores, into the cache that workers read."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from ....kernels.catalog import KERNELS
from ....kernels.compiled.survey import Case, Outcome, compile_cases, compiled_kernels, unable
from ....kernels.gpu.hardware import HARDWARE, assuming, hardware
from ....kernels.problem import Problem
from ....results.cores import usable_cores
from ..forms import form

TARGET = "sm_90"  # where there is no GPU that could say its own


def main() -> None:
    """Arguments: the form, and the JSON file to write. Exit code 1 means that something does not compile."""
    name, path = sys.argv[1:]
    if reason := unable():
        sys.exit(reason)
    started = time.perf_counter()
    work = cases(layers(form(name).precompiled))
    outcomes = compiled(work)
    failures = {f"{one.case.kernel} {one.case.problem.key}": one.error for one in outcomes if one.error}
    found = {
        "target": target(),
        "layers": len(outcomes),
        "launches": sum(len(one.figures) for one in outcomes),
        "spilt": sum(figures.spill_bytes > 0 for one in outcomes for figures in one.figures.values()),
        "processes": len(usable_cores()),
        "seconds": round(time.perf_counter() - started, 1),
        "failures": failures,
    }
    Path(path).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))  # noqa: T201  # the log
    sys.exit(int(bool(failures)))


def layers(problems: Iterable[Problem]) -> list[tuple[str, Problem]]:
    """Every kernel in Triton with every problem that it takes, on the device that is here."""
    device = here()
    return [
        (name, problem)
        for problem in problems
        for name in compiled_kernels()
        if KERNELS.load(name).supports(problem, device) is None
    ]


def cases(of: Iterable[tuple[str, Problem]]) -> list[Case]:
    """The default configuration of each, as it is on the device that is here, or on what stands for it."""
    on = target()
    found = []
    for name, problem in of:
        with assuming(hardware(here()) if torch.cuda.is_available() else HARDWARE[on]):
            config = KERNELS.load(name).space(problem, here())[0]
        found.append(Case(kernel=name, model="", problem=problem, config=config, target=on))
    return found


def here() -> torch.device:
    """The GPU; where there is none, the device of tensors without memory, on which launches are written down.

    Where Triton interprets, kernels run on the CPU, and nothing is compiled.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu" if unable() else "meta")


def target() -> str:
    """The GPU to compile for."""
    return hardware(torch.device("cuda")).target if torch.cuda.is_available() else TARGET


def compiled(work: Sequence[Case]) -> list[Outcome]:
    """What came of cases that all cores compiled, into the cache that Triton looks into in every process."""
    return list(compile_cases(work, len(usable_cores())))


if __name__ == "__main__":
    main()
