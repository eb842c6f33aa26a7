"""`moebench run` over suites made of faults, for torchrun to start."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from faulty_ranks import PARALLEL, RankName
from quick_start import quickly_spawned
from small_tasks import PROBLEM, task

import moebench.suites.plan
from moebench.cli.main import main
from moebench.execution.trial.task import Competitor, Task
from moebench.execution.workers import rank_agent
from moebench.execution.workers.worker import DeviceType
from moebench.results.record import Size


def asked(x: int, kernel: str, ranks: int, timeout_s: float = 60.0) -> Task:
    plain = task(x=float(x), problem=PROBLEM.replace(ranks=ranks), timeout_s=timeout_s)
    return replace(plain, competitors=(Competitor(kernel=RankName(kernel)),))


SWEEPS = {
    "calm": [asked(1, PARALLEL, ranks=2)],
    "faults": [
        asked(1, PARALLEL, ranks=2),
        asked(2, "DiesOnRankOne", ranks=2),
        asked(3, "HangsOnRankOne", ranks=2, timeout_s=2.0),
        asked(4, "loop", ranks=1),
        asked(5, PARALLEL, ranks=3),
    ],
    "long": [asked(x, PARALLEL, ranks=2) for x in range(1, 4)],
    "stuck": [asked(1, PARALLEL, ranks=2), asked(2, "HangsOnRankOne", ranks=2)],
}


def chosen(names: Sequence[str], size: Size, asked: object) -> tuple[list[Task], list[str]]:  # noqa: ARG001  # as in `plan`
    return [task for name in names for task in SWEEPS[name]], []


def planned(point: Task, size: Size, device_type: DeviceType) -> Task:  # noqa: ARG001  # as in `plan`
    return point


vars(moebench.suites.plan).update(chosen=chosen, _task=planned)
rank_agent.LOST_S = 10.0  # a machine under tests may send nothing for seconds

if __name__ == "__main__":
    with quickly_spawned() if "faults" in sys.argv else nullcontext():  # these workers are started again and again
        main()
