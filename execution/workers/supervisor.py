"""Supervisor of the workers of one slot: an implementation that dies costs one record and nothing else."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, cast

from ...kernels.catalog import KERNELS
from ...kernels.tuned.source_hash import source_hash
from ...results.record import SCHEMA, Record, Status
from ..trial.task import NOBODY, Competitor, Task
from .first_failure import receive_all
from .local_worker import LOCAL_WORKERS
from .worker import POLL_S, DeviceType, Died, Ready, Worker, WorkerError, WorkerProvider


class Supervisor:
    """Workers of one slot, one for each rank, which are started when they are needed and replaced when they die.

    ``kernels`` are what the workers import when they start, ``provider`` starts them. The first to be started are
    ``ranks``; later there are as many as the task at hand has. One thread starts and runs; any other may stop them.
    """

    def __init__(
        self, device_type: DeviceType, kernels: Sequence[str], provider: WorkerProvider = LOCAL_WORKERS, ranks: int = 1
    ) -> None:
        self._device_type = device_type
        self._kernels = tuple(kernels)
        self._provider = provider
        self._ranks = ranks
        self._running = ExitStack()
        self._workers: Sequence[Worker] = ()
        self._ready: Ready | None = None
        self._busy = threading.Lock()
        self._stopped = False

    def start(self) -> Ready:
        """Start the workers unless they run; return what they measure on.

        Raises:
            WorkerError: when they do not start, differ in their devices, or are stopped meanwhile.
        """
        with self._busy:
            return self._start(self._ranks)

    def run(self, task: Task) -> list[Record]:
        """Return the records of every competitor. A death costs its culprit one record; the others are measured anew.

        Raises:
            WorkerError: when no worker can be started, one is out of reach, or they are stopped meanwhile.
        """
        with self._busy:
            return self._run(task)

    def stop(self) -> None:
        """Kill the workers, whatever they are doing, and start none again."""
        self._stopped = True
        while not self._busy.acquire(timeout=POLL_S):  # repeatedly, because they may be starting at this moment
            for worker in self._workers:
                worker.kill()
        try:
            self._discard()
        finally:
            self._busy.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, task: Task) -> list[Record]:
        most = self._provider.most_ranks
        if most is not None and task.problem.ranks > most:
            ready, reason = self._ready or self._start(most), f"{task.problem.ranks} ranks wanted, there are {most}"
            return [unmeasured(task, who, ready, Status.unsupported, reason) for who in task.competitors]
        records: list[Record] = []
        while task.competitors:
            ready = self._start(task.problem.ranks)
            answer = self._measure(task)
            if not isinstance(answer, Died):
                return records + answer
            self._refuse_if_stopped()
            culprits = task.competitors if answer.culprit == NOBODY else (task.competitors[answer.culprit],)
            records += [unmeasured(task, who, ready, Status(answer.status), answer.reason) for who in culprits]
            task = dataclasses.replace(task, competitors=tuple(w for w in task.competitors if w not in culprits))
        return records

    def _measure(self, task: Task) -> list[Record] | Died:
        """Return the records of rank 0, or how a rank died; the workers are gone then."""
        for worker in self._workers:
            worker.send(task)
        answers = receive_all(self._workers)
        if isinstance(answers, Died):
            self._discard()
            return answers
        return cast(list[Record], answers[0])

    def _start(self, ranks: int) -> Ready:
        """Start that many workers, or as many as there can be, unless they run."""
        self._refuse_if_stopped()
        ranks = min(ranks, self._provider.most_ranks or ranks)
        if self._ready is None or len(self._workers) != ranks or not all(worker.running for worker in self._workers):
            self._discard()  # other workers hold memory, and one that died while it waited leaves its peers
            self._workers = self._running.enter_context(self._provider.workers(ranks, self._device_type, self._kernels))
            self._ready = self._await_start()
        return self._ready

    def _await_start(self) -> Ready:
        answers = receive_all(self._workers)
        if isinstance(answers, Died):
            self._discard()
            raise WorkerError(f"a worker did not start: {answers.reason}")
        first, *others = cast(list[Ready], answers)
        for rank, other in enumerate(others, start=1):
            if other.environment.device != first.environment.device:
                self._discard()
                raise WorkerError(
                    f"rank {rank} measures on {other.environment.device}, rank 0 on {first.environment.device}: "
                    "use machines of one kind"
                )
        return first

    def _discard(self) -> None:
        """Kill the workers and forget them."""
        self._workers, self._ready = (), None
        self._running.close()

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise WorkerError("the workers were stopped; start others")


def unmeasured(task: Task, competitor: Competitor, ready: Ready, status: Status, reason: str) -> Record:
    """Return the record of a competitor that was not measured; ``config`` is empty where the task names none."""
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
        source=source_hash(kernel.name, task.problem.block),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
