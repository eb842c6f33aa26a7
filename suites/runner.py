"""Runs of tasks: each is measured, and its records are appended to a file."""

from __future__ import annotations

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


class Runner:
    """Runs tasks on one device, or on several as ranks, into one store."""

    def __init__(self, store: Store, device_type: DeviceType, workplace: WorkerProvider = LOCAL_WORKERS) -> None:
        self._store = store
        self._device_type = device_type
        self._workplace = workplace
        self.spent = TimeSpent()

    def run(self, tasks: Sequence[Task]) -> Iterator[SuiteProgress]:
        """Measure tasks, append the records of each to the store, and yield them.

        Raises:
            StoreError: when the store holds records of another machine or of other versions.
            WorkerError: when no worker can be started, or one is out of reach.
        """
        kernels = sorted({who.kernel for task in tasks for who in task.competitors})
        with Supervisor(self._device_type, kernels, self._workplace) as isolated:
            self.spent = isolated.spent
            if tasks:
                self._refuse_to_mix(isolated.open(tasks[0].problem.ranks))
            for done, task in enumerate(tasks, start=1):
                records = isolated.run(task)
                for record in records:
                    self._store.append(record)
                left_s = self.spent.trials_s / done * (len(tasks) - done)
                yield SuiteProgress(task=task, records=records, done=done, total=len(tasks), left_s=left_s)

    def _refuse_to_mix(self, ready: Ready) -> None:
        for record in self._store.loaded.records:
            if differences := record.environment.differs(ready.environment):
                raise StoreError(
                    f"{self._store.path} holds records of another environment ({'; '.join(differences)}): "
                    "give another --output"
                )
