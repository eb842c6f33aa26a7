"""Runner of tasks: has them measured, and appends their records to a store as they are made."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..execution.trial.task import Task
from ..execution.workers.executor import Executor, Finished, OpenExecutor
from ..results.record import Environment, Record
from ..results.record.store import Store, StoreError
from .time_left import TimeLeft


@dataclass
class TimeSpent:
    """Seconds of a run: ``startup_s`` starting workers, ``trials_s`` in tasks, and ``timed_s`` of these in timed calls.

    Tasks that are measured side by side count in full.
    """

    startup_s: float = 0.0
    trials_s: float = 0.0
    timed_s: float = 0.0

    @property
    def harness(self) -> float:
        """Share of the time in tasks that was not spent in timed calls."""
        return 1 - self.timed_s / self.trials_s if self.trials_s else 0.0


@dataclass(frozen=True, kw_only=True)
class SuiteProgress:
    """After each task: its records, how many tasks are done, and the seconds that the others will take.

    ``share_done`` is by work, ``upcoming`` the task that is measured next where tasks are measured one by one.
    """

    task: Task
    records: list[Record]
    done: int
    total: int
    left_s: float
    share_done: float
    upcoming: Task | None


class Runner:
    """Runs tasks on the executors that ``open_executor`` opens, one for each number of ranks, into one store.

    ``spent`` says where the time went, ``losses`` which slots were lost; see `Executor.losses`.
    """

    def __init__(self, store: Store, open_executor: OpenExecutor) -> None:
        self._store = store
        self._open_executor = open_executor
        self.spent = TimeSpent()
        self.losses: list[str] = []

    def run(self, tasks: Sequence[Task]) -> Iterator[SuiteProgress]:
        """Measure tasks, append the records of each to the store, and yield the progress.

        Tasks of as many ranks are measured together, side by side where there are several slots.

        Raises:
            StoreError: when the store holds records of another machine or of other versions.
            ExecutorError, WorkerError: when no worker can be started, or no slot is left.
        """
        done, left = 0, TimeLeft(tasks)
        for ranks in dict.fromkeys(task.problem.ranks for task in tasks):
            group = [task for task in tasks if task.problem.ranks == ranks]
            kernels = sorted({who.kernel for task in group for who in task.competitors})
            started = time.monotonic()
            with self._open_executor(kernels, ranks) as executor:
                left.started(seconds := time.monotonic() - started)
                self.spent.startup_s += seconds
                self._refuse_to_mix(executor.environment)
                for number, finished in enumerate(_run_all(executor, group), 1):
                    self._keep(finished)
                    left.finished(finished.task, finished.seconds)
                    done += 1
                    yield SuiteProgress(
                        task=finished.task,
                        records=finished.records,
                        done=done,
                        total=len(tasks),
                        left_s=left.seconds(min(executor.slots, max(1, len(tasks) - done))),
                        share_done=left.share_done,
                        upcoming=group[number] if executor.slots == 1 and number < len(group) else None,
                    )
                self.losses += executor.losses

    def _keep(self, finished: Finished) -> None:
        for record in finished.records:
            self._store.append(record)
        self.spent.trials_s += finished.seconds
        self.spent.timed_s += sum(record.timing.timed_s for record in finished.records if record.timing)

    def _refuse_to_mix(self, environment: Environment) -> None:
        for record in self._store.loaded.records:
            if differences := record.environment.differs(environment):
                raise StoreError(
                    f"{self._store.path} holds records of another environment ({'; '.join(differences)}): "
                    "give another --output"
                )


def _run_all(executor: Executor, tasks: Sequence[Task]) -> Iterator[Finished]:
    for task in tasks:
        executor.submit(task)
    for _ in tasks:
        yield executor.next()
