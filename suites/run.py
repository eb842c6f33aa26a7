"""Running tasks: resume, isolate, record. Nothing here knows what is measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ..autotune.task import NOBODY, Competitor, Task
from ..autotune.worker import DeviceType, Died, Ready, WorkerGroup
from ..kernels.catalog import KERNELS
from ..results.record import SCHEMA, Record, Status
from ..results.store import Store, StoreError


@dataclass(frozen=True, kw_only=True)
class Progress:
    """After each task: its records, how many tasks are done, and the seconds that the others will take."""

    task: Task
    records: list[Record]
    done: int
    total: int
    left_s: float


@dataclass
class Spent:
    """Where the seconds of a run went: starting workers, trials in all, and the timed calls within them."""

    startup_s: float = 0.0
    trials_s: float = 0.0
    timed_s: float = 0.0

    @property
    def harness(self) -> float:
        """Share of the time after start-up that was not spent in timed calls."""
        return 1 - self.timed_s / self.trials_s if self.trials_s else 0.0


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
    """Runs tasks on one device into one store, in worker processes that are replaced when they die."""

    def __init__(self, store: Store, device_type: DeviceType) -> None:
        self._store = store
        self._device_type = device_type
        self._group: WorkerGroup | None = None
        self._ready: Ready | None = None
        self._kernels: list[str] = []
        self.spent = Spent()

    def run(self, tasks: Sequence[Task]) -> Iterator[Progress]:
        """Measure what the store does not hold yet, append the records of each task, and tell.

        Raises:
            StoreError: when the store holds records of another machine or of other versions.
            WorkerError: when no worker can be started.
        """
        left = pending(tasks, self._store.loaded.records)
        self._kernels = sorted({who.kernel for task in left for who in task.competitors})
        try:
            for done, task in enumerate(left, start=1):
                records = self._trial(task)
                for record in records:
                    self._store.append(record)
                left_s = self.spent.trials_s / done * (len(left) - done)
                yield Progress(task=task, records=records, done=done, total=len(left), left_s=left_s)
        finally:
            if self._group is not None:
                self._group.stop()

    def _trial(self, task: Task) -> list[Record]:
        """Records of every competitor. A death costs its culprit one record; the others are measured without it."""
        records: list[Record] = []
        while task.competitors:
            group, ready = self._workers(task.problem.ranks)
            started = time.monotonic()
            answer = group.run(task)
            self.spent.trials_s += time.monotonic() - started
            if not isinstance(answer, Died):
                self.spent.timed_s += sum(sum(record.timing.samples_ns) for record in answer if record.timing) / 1e9
                return records + answer
            culprits = task.competitors if answer.culprit == NOBODY else (task.competitors[answer.culprit],)
            records += [_obituary(task, who, answer, ready) for who in culprits]
            task = dataclasses.replace(task, competitors=tuple(w for w in task.competitors if w not in culprits))
        return records

    def _workers(self, ranks: int) -> tuple[WorkerGroup, Ready]:
        """A running group of that many ranks; an idle group of another size is given up, it holds memory."""
        if self._group is None or self._group.ranks != ranks:
            if self._group is not None:
                self._group.stop()
            self._group = WorkerGroup(self._device_type, ranks, self._kernels)
        if self._ready is None or not self._group.running:
            started = time.monotonic()
            self._ready = self._group.start()
            self.spent.startup_s += time.monotonic() - started
            self._refuse_to_mix(self._ready)
        return self._group, self._ready

    def _refuse_to_mix(self, ready: Ready) -> None:
        for record in self._store.loaded.records:
            if differences := record.environment.differs(ready.environment):
                raise StoreError(
                    f"{self._store.path} holds records of another environment ({'; '.join(differences)}): "
                    "give another --output"
                )


def _obituary(task: Task, competitor: Competitor, died: Died, ready: Ready) -> Record:
    """The record of a competitor whose worker died."""
    kernel = KERNELS.load(competitor.kernel)
    return Record(
        schema_version=SCHEMA,
        point=task.point,
        key=task.problem.key,
        problem=dataclasses.asdict(task.problem),
        kernel=kernel.name,
        family=kernel.family,
        config={} if isinstance(competitor.config, str) else dict(competitor.config),
        status=Status(died.status),
        reason=died.reason,
        environment=ready.environment,
        commit=ready.commit,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
