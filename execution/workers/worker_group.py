"""Groups of workers, one for each rank of a problem, and where they can be had."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from ...results.record import Record
from ..trial.task import Task
from .affinity import WHOLE, Affinity
from .rendezvous import FileRendezvous, RankInfo
from .worker import POLL_S, Answer, DeviceType, Died, LocalWorker, Ready, Worker, WorkerError

LAST_WORDS_S = 2.0  # for the others to tell of a death or a hang too: the first that is heard of it may be a bystander


class WorkerProvider(Protocol):
    """Where workers can be had."""

    @property
    def most_ranks(self) -> int | None:
        """How many at the same time; None means that nobody has counted."""

    def workers(
        self, ranks: int, device_type: DeviceType, kernels: Sequence[str]
    ) -> AbstractContextManager[Sequence[Worker]]:
        """Start a worker for each rank, who meet; on leaving they are killed. ``kernels`` are what they import."""


@dataclass(frozen=True)
class LocalWorkers:
    """Workers that are processes of this machine and may use what ``mask`` leaves of it."""

    mask: Affinity = WHOLE

    @property
    def most_ranks(self) -> None:
        return None

    @contextmanager
    def workers(self, ranks: int, device_type: DeviceType, kernels: Sequence[str]) -> Iterator[Sequence[Worker]]:
        with tempfile.TemporaryDirectory(prefix="moebench-") as folder, ExitStack() as started:
            workers = []
            for rank in range(ranks):
                seat = RankInfo(rank=rank, ranks=ranks, local_rank=rank, local_ranks=ranks)
                worker = LocalWorker(seat, FileRendezvous(Path(folder) / "meeting"), device_type, kernels, self.mask)
                started.callback(worker.stop)
                worker.start()
                workers.append(worker)
            yield workers


LOCAL_WORKERS = LocalWorkers()


class WorkerGroup:
    """The workers of all ranks, who run the same tasks. After a death it is stopped; start it again."""

    def __init__(self, workplace: WorkerProvider, ranks: int, device_type: DeviceType, kernels: Sequence[str]) -> None:
        self._workplace = workplace
        self._device_type = device_type
        self._kernels = tuple(kernels)
        self._hired = ExitStack()
        self._workers: Sequence[Worker] = ()
        self.ranks = ranks

    def start(self) -> Ready:
        """Start the workers and wait until they can take a task.

        Raises:
            WorkerError: when one does not come up, or measures on another device than rank 0.
        """
        self._workers = self._hired.enter_context(self._workplace.workers(self.ranks, self._device_type, self._kernels))
        ready = self._answers()
        if isinstance(ready, Died):
            raise WorkerError(f"a worker did not start: {ready.reason}")
        first, *others = cast(list[Ready], ready)
        for rank, other in enumerate(others, start=1):
            if other.environment.device != first.environment.device:
                self.stop()
                raise WorkerError(
                    f"rank {rank} measures on {other.environment.device}, rank 0 on {first.environment.device}: "
                    "use machines of one kind"
                )
        return first

    def run(self, task: Task) -> list[Record] | Died:
        """The records of rank 0, or how a rank died.

        Raises:
            WorkerError: when a rank is out of reach.
        """
        for worker in self._workers:
            worker.send(task)
        answers = self._answers()
        return answers if isinstance(answers, Died) else cast(list[Record], answers[0])

    @property
    def running(self) -> bool:
        """Whether it was started and every worker is alive."""
        return bool(self._workers) and all(worker.running for worker in self._workers)

    def kill(self) -> None:
        """End the workers from another thread than the one that waits for them, which sees them die."""
        for worker in self._workers:
            worker.kill()

    def stop(self) -> None:
        """Kill the workers, whatever they are doing."""
        self._workers = ()
        self._hired.close()

    def _answers(self) -> list[Answer] | Died:
        """The next message of every rank; or the death that it all began with, and the group is stopped."""
        answers: dict[int, Answer] = {}
        deaths: list[Died] = []
        since = math.inf
        while (waiting := [rank for rank in range(self.ranks) if rank not in answers]) and not (
            deaths and self._heard_out(deaths, since, waiting)
        ):
            for rank in waiting:
                answer = self._workers[rank].answer(POLL_S if rank == waiting[0] else 0.0)
                if answer is not None:
                    answers[rank] = answer
                if isinstance(answer, Died):
                    deaths.append(answer)
                    since = min(since, time.monotonic())
        if deaths:
            self.stop()
            return min(deaths, key=lambda death: (not death.seen, death.joined))
        return [answers[rank] for rank in range(self.ranks)]

    def _heard_out(self, deaths: Sequence[Died], since: float, silent: Sequence[int]) -> bool:
        """Whether nothing more is to be learnt: a death was seen, or whoever is silent has nothing to say."""
        if any(death.seen for death in deaths):
            return True
        return time.monotonic() - since > LAST_WORDS_S and all(self._workers[rank].in_reach for rank in silent)
