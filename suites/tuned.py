"""Tasks in tuned configurations. Imports torch, to know the device."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import torch

from ..execution.trial.task import Competitor, Task
from ..execution.workers.worker import DeviceType
from ..kernels.catalog import KERNELS
from ..kernels.problem import Problem
from ..kernels.tuned.lookup import Found, look_up, stale_wanted, tuned_kernels


def as_tuned(tasks: Sequence[Task], device_type: DeviceType) -> tuple[list[Task], list[str]]:
    """Return the tasks in tuned configurations, and sentences on where these were found and where not.

    A kernel without a table for this device keeps its default, and nothing is said.
    """
    device = torch.device(device_type)
    tuned = tuned_kernels(device)
    found: Counter[str] = Counter()
    missed: Counter[tuple[str, str]] = Counter()

    def configured(who: Competitor, problem: Problem) -> Competitor:
        core = problem.core  # what stands around the experts has nothing to tune
        if who.config is not None or who.kernel not in tuned or KERNELS.load(who.kernel).supports(core, device):
            return who
        answer = look_up(core, who.kernel, device, stale=stale_wanted())
        if not isinstance(answer, Found):
            missed[who.kernel, answer.reason] += 1
            return who
        found[who.kernel] += 1
        return dataclasses.replace(who, config=answer.config)

    done = [
        dataclasses.replace(task, competitors=tuple(configured(who, task.problem) for who in task.competitors))
        for task in tasks
    ]
    notes = [f"{name} runs as tuned at {_points(count)}" for name, count in found.items()]
    notes += [f"{name} runs by default at {_points(count)}: {reason}" for (name, reason), count in missed.items()]
    return done, notes


def _points(count: int) -> str:
    return f"{count} point{'s' if count > 1 else ''}"
