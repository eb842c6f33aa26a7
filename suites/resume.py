"""Resuming: what of some tasks a file of records does not hold yet."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from ..execution.trial.task import Competitor, Task
from ..execution.workers.worker import DeviceType
from ..kernels.catalog import KERNELS
from ..kernels.problem import Problem
from ..kernels.torch_ops.scatter_tiles import threads
from ..kernels.tuned.source_hash import source_hash
from ..results.record import Record, Status
from ..results.record.identity import Identity


@dataclass(frozen=True)
class Remaining:
    """The tasks that are left to measure, and why records of them do not count, in sentences."""

    tasks: list[Task]
    notes: list[str]


def pending(tasks: Sequence[Task], records: Sequence[Record], device_type: DeviceType) -> Remaining:
    """Return each task without the competitors that the records hold, in the sources and the configuration of now.

    Environments are not compared: a file holds records of one.
    """
    held: dict[Identity, list[Record]] = defaultdict(list)
    for record in records:
        if record.status.of_the_machine:  # it had no number to give then; now it may have one
            continue
        held[record.identity.without("config", "source")].append(record)
    left, outdated = [], Counter[str]()
    for task in tasks:
        competitors = []
        for who in task.competitors:
            earlier = held[Identity.at(task.point, problem=task.problem.key, kernel=who.kernel)]
            of_now = [record for record in earlier if record.source == source_hash(who.kernel)]
            if any(_answers(record, who, task.problem, device_type) for record in of_now):
                continue
            competitors.append(who)
            if earlier:
                outdated[f"another configuration of {who.kernel}" if of_now else f"an earlier {who.kernel}"] += 1
        if competitors:
            left.append(dataclasses.replace(task, competitors=tuple(competitors)))
    notes = [
        f"{n} {'record is' if n == 1 else 'records are'} of {what}: measured again" for what, n in outdated.items()
    ]
    return Remaining(left, notes)


def _answers(record: Record, wanted: Competitor, problem: Problem, device_type: DeviceType) -> bool:
    """Return whether a record has the wanted configuration. One that was never built may name only a part of it."""
    given = dict(wanted.config or {})
    if record.status is Status.unsupported or (record.timing is None and record.config == given):
        return True
    default = _default(wanted.kernel, problem, device_type, record.environment.threads)
    return record.config == {**default, **given}


@cache
def _default(kernel_name: str, problem: Problem, device_type: DeviceType, count: int) -> Mapping[str, object]:
    """Return the default configuration in a process of so many threads, on which it may depend."""
    kernel = KERNELS.load(kernel_name)
    with threads(count if device_type == "cpu" else None):
        return kernel.space(kernel.solves(problem), torch.device(device_type))[0]
