"""Progress of a program: a line for each measured task, so that its log shows how far it got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ....execution.trial.task import Task
from ....results.record import Record


def print_progress(task: Task, records: Sequence[Record]) -> bool:
    """Print the statuses and reasons of a task's records; return whether any record is bad."""
    point = task.point
    statuses = Counter(record.status.value for record in records)
    print(f"{point.series}, {point.axis} {point.x}: {', '.join(f'{n} {word}' for word, n in statuses.items())}")  # noqa: T201  # the log
    for record in records:
        if record.reason:
            print(f"  {record.kernel}: {record.status.value}: {record.reason}")  # noqa: T201  # the log
    return any(record.status.bad for record in records)
