"""Small tasks for tests of what runs them."""

from __future__ import annotations

from faulty_kernels import Name

from moebench.execution.trial.task import Budget, Competitor, Task
from moebench.kernels.problem import Problem
from moebench.results.record import CacheState, Point

PROBLEM = Problem(T=64, D=32, F=48, E=4, K=2)


def point(x: float = 1.0, suite: str = "test", cache: CacheState = "cold") -> Point:
    return Point(suite=suite, question="Does it?", axis="x", series="s", x=x, baseline="loop", cache=cache)


def task(
    *kernels: str, problem: Problem = PROBLEM, x: float = 1.0, timeout_s: float = 60.0, cache: CacheState = "cold"
) -> Task:
    return Task(
        point=point(x, cache=cache),
        problem=problem,
        competitors=tuple(Competitor(kernel=Name(kernel)) for kernel in kernels),
        budget=Budget(seconds=0.02, timeout_s=timeout_s),
    )
