"""`moebench run` over the points of the network study, started by torchrun; NETWORK_SERIES names the series."""

from __future__ import annotations

import os
from dataclasses import replace

from small_tasks import task

import moebench.suites.plan
from moebench.cli.main import main
from moebench.execution.trial.task import Budget, Competitor, Task
from moebench.kernels.catalog import KERNELS
from moebench.kernels.problem import Problem

TOKENS = (96, 384)  # of each rank: about 100 and 400 KiB for each other rank, and more
DISPATCHERS = tuple(name for name in KERNELS.names() if KERNELS.load(name).between_ranks)
SHAPE = Problem(T=1, D=256, F=128, E=16, K=4)


def asked(series: str, ranks: int) -> list[Task]:
    """Return a task for each number of tokens."""
    return [
        replace(
            task(x=float(tokens)),
            point=task(x=float(tokens)).point.model_copy(update={"suite": "network", "series": series}),
            problem=SHAPE.replace(T=tokens * ranks, ranks=ranks),
            competitors=tuple(Competitor(kernel=name) for name in DISPATCHERS),
            budget=Budget(seconds=20.0, samples=15),
        )
        for tokens in TOKENS
    ]


if __name__ == "__main__":
    series, ranks = os.environ["NETWORK_SERIES"], int(os.environ["WORLD_SIZE"])
    moebench.suites.plan.tasks = lambda name, size, device_type: asked(series, ranks)  # noqa: ARG005  # the names are part of the type
    main()
