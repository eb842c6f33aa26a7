"""Measurement of tasks that belong to no suite, ``check`` or ``rivals`` of a form, into a file of records."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ....execution.trial.task import Budget, Competitor, Task
from ....execution.workers.local_executor import local_executor
from ....kernels.compiler.survey import unable
from ....results.record import Point
from ....results.record.store import Store
from ...plan import BUDGETS
from ...resume import pending
from ...runner import Runner
from ..forms import SessionForm, form
from ._progress import print_progress
from .precompile import cases, compiled, layers

HANG_S = 30.0  # a small layer that takes longer to compile and run is taken to hang
FEW = 1  # samples where only the correctness of the result matters


def main() -> None:
    """Read the arguments (form, list, file of records) and measure. Exit code 1 means that a record is bad."""
    name, which, path = sys.argv[1:]
    chosen = form(name)
    tasks = list({"check": checks, "rivals": rivals}[which](chosen))
    if which == "check" and unable() is None:
        compiled(cases(layers(task.problem for task in tasks)))
    with Store(Path(path)) as store:
        left = pending(tasks, store.loaded.records, chosen.device).tasks
        runner = Runner(store, partial(local_executor, chosen.device))
        bad = [print_progress(progress.task, progress.records) for progress in runner.run(left)]
    sys.exit(int(any(bad)))


def checks(chosen: SessionForm) -> Iterator[Task]:
    """Yield a small layer in every element type, forward and training, for every Triton kernel that supports it."""
    for problem in chosen.checks:
        kernels = [kernel for kernel, _ in layers([problem])]
        capacity = "dropless" if problem.capacity_factor is None else f"capacity factor {problem.capacity_factor:g}"
        yield Task(
            point=Point(
                suite="check",
                question="Are the kernels in Triton right in every element type?",
                axis="element type",
                series=f"{problem.mode}, {capacity}, T={problem.T}",
                x=problem.dtype,
                baseline="triton_scatter",
            ),
            problem=problem,
            competitors=tuple(Competitor(kernel=kernel) for kernel in kernels),
            budget=Budget(seconds=0.1, timeout_s=HANG_S, samples=FEW),
        )


def rivals(chosen: SessionForm) -> Iterator[Task]:
    """Yield one task for each shape of many fine experts, in which the installed peers compete."""
    for problem in chosen.rivals:
        yield Task(
            point=Point(
                suite="rivals",
                question="How fast are others' kernels at many fine experts?",
                axis="tokens T",
                series=f"D={problem.D}, F={problem.F}, E={problem.E}, K={problem.K}",
                x=problem.T,
                baseline=chosen.rival_kernels[0],
            ),
            problem=problem,
            competitors=tuple(Competitor(kernel=kernel) for kernel in chosen.rival_kernels),
            budget=BUDGETS[chosen.size],
        )


if __name__ == "__main__":
    main()
