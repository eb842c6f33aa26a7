"""`moebench run` over the points of the network study, started by torchrun; NETWORK_SERIES names the series."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from moebench.cli.main import main
from moebench.execution.trial.task import Budget, Competitor, Task
from moebench.execution.workers.worker import DeviceType
from moebench.kernels.catalog import KERNELS
from moebench.kernels.problem import Problem
from moebench.results.record import Point, Size
from moebench.suites import plan

TOKENS: Final = (96, 384)  # of each rank: about 100 and 400 KiB for each other rank, and more
DISPATCHERS: Final = tuple(name for name in KERNELS.names() if KERNELS.load(name).between_ranks)
SHAPE: Final = Problem(T=1, D=256, F=128, E=16, K=4)
SUITE: Final = "network"


def points(series: str, ranks: int) -> list[Task]:
    """Return a task for each number of tokens."""
    return [
        Task(
            point=Point(
                suite=SUITE,
                question="Which dispatch is fastest over a slow network, and do predictions tell?",
                axis="tokens of each rank",
                series=series,
                x=float(tokens),
                baseline="alltoall",
            ),
            problem=SHAPE.replace(T=tokens * ranks, ranks=ranks),
            competitors=tuple(Competitor(kernel=name) for name in DISPATCHERS),
            budget=Budget(seconds=20.0, samples=15),
        )
        for tokens in TOKENS
    ]


def add_to_plan(series: str, ranks: int) -> None:
    """Make the planner of suites know the points as those of a suite."""

    def chosen(names: Sequence[str], size: Size, asked: object) -> tuple[list[Task], list[str]]:  # noqa: ARG001  # as in `plan`
        if list(names) != [SUITE]:
            raise SystemExit(f"this program runs {SUITE}, not {', '.join(names)}")
        return points(series, ranks), []

    def task(point: Task, size: Size, device_type: DeviceType) -> Task:  # noqa: ARG001
        return point

    vars(plan).update(chosen=chosen, _task=task)


if __name__ == "__main__":
    add_to_plan(os.environ["NETWORK_SERIES"], int(os.environ["WORLD_SIZE"]))
    main()
