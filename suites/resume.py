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
from ..kernels.block_kernel import competing
from ..kernels.problem import Problem
from ..kernels.torch_ops.scatter_tiles import threads
from ..kernels.tuned.source_hash import source_hash
from ..results.record import Record, Status
from ..results.record.identity import Identity


@dataclass(frozen=True)
class Remaining:
    """The tasks that are left to measure, and what records of them count and which do not, in sentences."""

    tasks: list[Task]
    notes: list[str]


def pending(tasks: Sequence[Task], records: Sequence[Record], device_type: DeviceType) -> Remaining:
    """Return each task without the competitors that the records hold, in the sources and the configuration of now.

    A record that was cut short by a number of samples, smaller than that of now, does not count either, nor one without
    stages where these are asked for. Environments are not compared: a file holds records of one.
    """
    held: dict[Identity, list[Record]] = defaultdict(list)
    for record in records:
        if record.status.of_the_machine:  # it had no number to give then; now it may have one
            continue
        held[record.identity.without("config", "source")].append(record)
    left, outdated, kept = [], Counter[str](), 0
    for task in tasks:
        competitors = []
        for who in task.competitors:
            earlier = held[Identity.at(task.point, problem=task.problem.key, kernel=who.kernel)]
            source = source_hash(who.kernel, task.problem.block)
            of_now = [record for record in earlier if record.source == source]
            wanted = [record for record in of_now if _answers(record, who, task.problem, device_type)]
            lacks = [_lacks(record, task) for record in wanted]
            if None in lacks:
                kept += 1
                continue
            competitors.append(who)
            if wanted:
                outdated[lacks[-1] or ""] += 1
            elif earlier:
                outdated[f"another configuration of {who.kernel}" if of_now else f"an earlier {who.kernel}"] += 1
        if competitors:
            left.append(dataclasses.replace(task, competitors=tuple(competitors)))
    notes = [
        f"{n} {'record is' if n == 1 else 'records are'} of {what}: measured again" for what, n in outdated.items()
    ]
    if kept:
        trials = sum(len(task.competitors) for task in tasks)
        notes.append(f"{kept} of {trials} {'trial is' if trials == 1 else 'trials are'} in the file already: kept")
    return Remaining(left, notes)


def _sampled_enough(record: Record, wanted: int | None) -> bool:
    """Return whether a record has as many samples as are wanted, None for as many as the noise asks for."""
    if record.timing is None or record.timing.stopped != "enough":
        return True
    return wanted is not None and len(record.timing.samples_ns) >= wanted


def _lacks(record: Record, task: Task) -> str | None:
    """Return what a record lacks of what a task asks for, in words, or None."""
    if not _sampled_enough(record, task.budget.samples):
        return "fewer samples than are asked for"
    if "stages" in task.asks and record.stages is None and record.timing is not None:
        return "calls whose stages were not timed"
    return None


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
    kernel = competing(kernel_name, problem)
    with threads(count if device_type == "cpu" else None):
        return kernel.space(kernel.solves(problem), torch.device(device_type))[0]
