"""Running tasks on one device so that an implementation which dies costs one record and nothing else."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from ...kernels.catalog import KERNELS
from ...kernels.tuned.source_hash import source_hash
from ...results.record import SCHEMA, Record, Status
from ..trial.task import NOBODY, Competitor, Task
from .worker import POLL_S, DeviceType, Died, Ready, WorkerError
from .worker_group import LOCAL_WORKERS, WorkerGroup, WorkerProvider


@dataclass
class TimeSpent:
    """Where the seconds of a run went: starting workers, trials in all, and the timed calls within them."""

    startup_s: float = 0.0
    trials_s: float = 0.0
    timed_s: float = 0.0

    @property
    def harness(self) -> float:
        """Share of the time after start-up that was not spent in timed calls."""
        return 1 - self.timed_s / self.trials_s if self.trials_s else 0.0


class Supervisor:
    """Workers of one device, which are started when they are needed and replaced when they die.

    ``kernels`` are what they import when they start, ``workplace`` is where they can be had. One thread opens and runs;
    any other may close meanwhile.
    """

    def __init__(
        self, device_type: DeviceType, kernels: Sequence[str], workplace: WorkerProvider = LOCAL_WORKERS
    ) -> None:
        self._device_type = device_type
        self._kernels = tuple(kernels)
        self._workplace = workplace
        self._group: WorkerGroup | None = None
        self._ready: Ready | None = None
        self._busy = threading.Lock()
        self._closed = False
        self.spent = TimeSpent()

    def open(self, ranks: int = 1) -> Ready:
        """Start ``ranks`` workers, or as many as there can be, unless they run; say what they measure on.

        Raises:
            WorkerError: when they do not come up, or are closed meanwhile.
        """
        with self._busy:
            return self._workers(ranks)[1]

    def run(self, task: Task) -> list[Record]:
        """Records of every competitor. A death costs its culprit one record; the others are measured without it.

        Raises:
            WorkerError: when no worker can be started, one is out of reach, or they are closed meanwhile.
        """
        with self._busy:
            return self._run(task)

    def close(self) -> None:
        """Kill the workers, whatever they are doing, and start none again."""
        self._closed = True
        while not self._busy.acquire(timeout=POLL_S):  # again and again: they may just be starting
            if self._group is not None:
                self._group.kill()
        try:
            if self._group is not None:
                self._group.stop()
        finally:
            self._busy.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, task: Task) -> list[Record]:
        most = self._workplace.most_ranks
        if most is not None and task.problem.ranks > most:
            ready, reason = (
                self._ready or self._workers(most)[1],
                f"{task.problem.ranks} ranks wanted, there are {most}",
            )
            return [unmeasured(task, who, ready, Status.unsupported, reason) for who in task.competitors]
        records: list[Record] = []
        while task.competitors:
            group, ready = self._workers(task.problem.ranks)
            started = time.monotonic()
            answer = group.run(task)
            self.spent.trials_s += time.monotonic() - started
            if not isinstance(answer, Died):
                self.spent.timed_s += sum(record.timing.timed_s for record in answer if record.timing)
                return records + answer
            self._refuse_if_closed()
            culprits = task.competitors if answer.culprit == NOBODY else (task.competitors[answer.culprit],)
            records += [unmeasured(task, who, ready, Status(answer.status), answer.reason) for who in culprits]
            task = dataclasses.replace(task, competitors=tuple(w for w in task.competitors if w not in culprits))
        return records

    def _workers(self, ranks: int) -> tuple[WorkerGroup, Ready]:
        """A running group of that many ranks, or of as many as there can be."""
        self._refuse_if_closed()
        ranks = min(ranks, self._workplace.most_ranks or ranks)
        if self._ready is None or self._group is None or self._group.ranks != ranks or not self._group.running:
            if self._group is not None:
                self._group.stop()  # it holds memory, or is what is left of one that died while nothing was asked of it
            self._ready, self._group = None, WorkerGroup(self._workplace, ranks, self._device_type, self._kernels)
            started = time.monotonic()
            self._ready = self._group.start()
            self.spent.startup_s += time.monotonic() - started
        return self._group, self._ready

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise WorkerError("the workers were closed; open others")


def unmeasured(task: Task, competitor: Competitor, ready: Ready, status: Status, reason: str) -> Record:
    """The record of a competitor that no worker lived to tell of; ``config`` is empty where the task names none."""
    kernel = KERNELS.load(competitor.kernel)
    return Record(
        schema_version=SCHEMA,
        point=task.point,
        key=task.problem.key,
        problem=dataclasses.asdict(task.problem),
        kernel=kernel.name,
        family=kernel.family,
        config=dict(competitor.config or {}),
        status=status,
        reason=reason,
        environment=ready.environment,
        commit=ready.commit,
        source=source_hash(kernel.name),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
