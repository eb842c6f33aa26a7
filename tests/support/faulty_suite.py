"""A plugin of pytest with one suite: a kernel that works, one that fails and one that is not installed."""

from __future__ import annotations

from collections.abc import Sequence

import faulty_kernels

from moebench.execution.trial.task import Budget, Competitor, Task
from moebench.execution.workers.worker import DeviceType
from moebench.kernels.problem import Problem
from moebench.results.record import Point, Size
from moebench.suites import plan

ASKED = Task(
    point=Point(suite="faulty", question="Do they?", axis="x", series="tiny", x=1.0, baseline="loop"),
    problem=Problem(T=16, D=32, F=48, E=4, K=2),
    competitors=(
        Competitor(kernel="scatter", config={"combine": "bag"}),
        Competitor(kernel=faulty_kernels.Name("Raises")),
        Competitor(kernel="megablocks"),
    ),
    budget=Budget(seconds=0.1),
)


def chosen(names: Sequence[str], size: Size, asked: object) -> tuple[list[Task], list[str]]:  # noqa: ARG001  # as in `plan`
    """Return the only task, as the one point of the suite that is named ``faulty``."""
    assert (list(names), size) == (["faulty"], "small")
    return [ASKED], []


def planned(point: Task, size: Size, device_type: DeviceType) -> Task:
    """Return the task of a point, which is the point here."""
    assert (size, device_type) == ("small", "cpu")
    return point


vars(plan).update(chosen=chosen, _task=planned)
