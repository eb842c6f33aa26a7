"""Running tasks: resume, measure, record. Nothing here knows what is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..execution.trial.task import Task
from ..execution.workers.supervisor import Supervisor, TimeSpent
from ..execution.workers.worker import DeviceType, Ready
from ..execution.workers.worker_group import LOCAL_WORKERS, WorkerProvider
from ..results.record import Record
from ..results.record.store import Store, StoreError


@dataclass(frozen=True, kw_only=True)
class SuiteProgress:
    """After each task: its records, how many tasks are done, and the seconds that the others will take."""

    task: Task
    records: list[Record]
    done: int
    total: int
    left_s: float


def pending(tasks: Sequence[Task], records: Sequence[Record]) -> list[Task]:
    """What is left to do: each task without the competitors whose record exists."""
    done = {(record.point, record.key, record.kernel) for record in records}
    left = []
    for task in tasks:
        competitors = tuple(who for who in task.competitors if (task.point, task.problem.key, who.kernel) not in done)
        if competitors:
            left.append(dataclasses.replace(task, competitors=competitors))
    return left


class Runner:
    """Runs tasks on one device, or on several as ranks, into one store."""

    def __init__(self, store: Store, device_type: DeviceType, workplace: WorkerProvider = LOCAL_WORKERS) -> None:
        self._store = store
        self._device_type = device_type
        self._workplace = workplace
        self.spent = TimeSpent()

    def run(self, tasks: Sequence[Task]) -> Iterator[SuiteProgress]:
        """Measure what the store does not hold yet, append the records of each task, and tell.

        Raises:
            StoreError: when the store holds records of another machine or of other versions.
            WorkerError: when no worker can be started, or one is out of reach.
        """
        left = pending(tasks, self._store.loaded.records)
        kernels = sorted({who.kernel for task in left for who in task.competitors})
        with Supervisor(self._device_type, kernels, self._workplace) as isolated:
            self.spent = isolated.spent
            if left:
                self._refuse_to_mix(isolated.open(left[0].problem.ranks))
            for done, task in enumerate(left, start=1):
                records = isolated.run(task)
                for record in records:
                    self._store.append(record)
                left_s = self.spent.trials_s / done * (len(left) - done)
                yield SuiteProgress(task=task, records=records, done=done, total=len(left), left_s=left_s)

    def _refuse_to_mix(self, ready: Ready) -> None:
        for record in self._store.loaded.records:
            if differences := record.environment.differs(ready.environment):
                raise StoreError(
                    f"{self._store.path} holds records of another environment ({'; '.join(differences)}): "
                    "give another --output"
                )
