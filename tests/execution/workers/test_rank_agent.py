"""Agents: commands are executed one after another, and a lost agent is named and no competitor is blamed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from small_tasks import PROBLEM, task
from torch.distributed import HashStore  # type: ignore[attr-defined]  # torch's stubs lack it
from torchrun_launcher import until

from moebench.execution.trial.task import Task
from moebench.execution.workers import first_failure, rank_agent
from moebench.execution.workers.first_failure import receive_all
from moebench.execution.workers.local_worker import LocalWorker
from moebench.execution.workers.rank_agent import Leave, RankAgent
from moebench.execution.workers.rendezvous_store import Store
from moebench.execution.workers.supervisor import Supervisor
from moebench.execution.workers.torchrun import Torchrun
from moebench.execution.workers.worker import Answer, Died, Ready, Worker, WorkerError
from moebench.results.record.environment import fingerprint

READY = Ready(fingerprint("cpu", device="A CPU", driver=None), "unknown")
SPOKE = Died(0, "crashed", "rank 0: RuntimeError: Connection closed by peer")
SEEN = Died(0, "crashed", "the worker was killed by SIGKILL", seen=True)


class Puppet(LocalWorker):
    """Fake worker without a process: it sends the given messages, and dies when it is killed."""

    def __init__(self, lines: Sequence[Answer]) -> None:
        self.lines = list(lines)
        self.tasks: list[Task] = []
        self.alive = False

    def start(self) -> None:
        self.alive = True

    @property
    def running(self) -> bool:
        return self.alive

    def send(self, task: Task) -> None:
        self.tasks.append(task)

    def receive(self, wait_s: float) -> Answer | None:
        if not self.alive:
            return SEEN
        if len(self.lines) > 0:
            return self.lines.pop(0)
        time.sleep(wait_s)
        return None

    def kill(self) -> None:
        self.alive = False

    stop = kill


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hearts beat faster, and let nobody wait as long as for a real machine."""
    monkeypatch.setattr(rank_agent, "BEAT_S", 0.05)
    monkeypatch.setattr(rank_agent, "IN_REACH_S", 0.3)
    monkeypatch.setattr(first_failure, "LAST_WORDS_S", 0.6)


@pytest.fixture
def store() -> Store:
    return HashStore()


@pytest.fixture
def crew(store: Store) -> Torchrun:
    return Torchrun(store, 2)


@contextmanager
def keeping(crew: Torchrun, rank: int, *puppets: Puppet) -> Iterator[list[int]]:
    """Run an agent in a thread, which starts the given fake workers in turn; return the exit code of the agent."""
    kept, left = crew._workers[rank], list[int]()
    agent = RankAgent(kept._store, rank, lambda start: puppets[start.generation - 1])
    thread = threading.Thread(target=lambda: left.append(agent.serve()), daemon=True)
    thread.start()
    try:
        yield left
    finally:
        if not left:
            kept.send(Leave(3))
        thread.join()


def two_ranks() -> Task:
    return task("loop", problem=PROBLEM.replace(ranks=2))


def run(workers: Sequence[Worker]) -> list[Answer] | Died:
    for worker in workers:
        worker.send(two_ranks())
    return receive_all(workers)


def heard(kept: Worker) -> Answer:
    while (answer := kept.receive(0.01)) is None:
        pass
    return answer


def test_answers_come_back_and_a_dead_worker_is_seen_and_replaced(crew: Torchrun) -> None:
    first, second = Puppet([READY, []]), Puppet([READY])
    with keeping(crew, 0, first, second) as left:
        with crew.workers(1, "cpu", ()) as (kept,):
            assert heard(kept) == READY
            kept.send(task("loop"))
            assert heard(kept) == []
            assert first.tasks == [task("loop")]
            assert kept.running
            assert kept.in_reach
            first.kill()  # while it has no task
            until(lambda: not kept.running, seconds=5.0)
        with crew.workers(1, "cpu", ()) as (kept,):
            assert heard(kept) == READY
            kept.kill()
            assert heard(kept) == SEEN
    assert left == [3]
    assert not second.alive


def test_all_leave_with_the_exit_code_of_rank_0(crew: Torchrun) -> None:
    with keeping(crew, 0) as first, keeping(crew, 1) as second:
        crew.leave(1)
    assert (first, second) == ([1], [1])


def test_an_agent_that_gives_no_sign_of_life_is_lost_and_named(
    crew: Torchrun, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_agent, "LOST_S", 0.4)
    with (
        crew.workers(2, "cpu", ()) as (_, kept),
        pytest.raises(WorkerError, match=r"rank 1 has given no sign of life for 0.4 s .* --output to continue"),
    ):
        heard(kept)
    with pytest.raises(WorkerError, match="rank 0 has given no sign of life"):
        RankAgent(store, 2, lambda _: Puppet([])).serve()


def test_what_a_lost_machine_does_to_the_others_is_no_competitors_crash(
    crew: Torchrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1's machine is gone with its agent and its worker: rank 0 only reports a connection that was closed."""
    monkeypatch.setattr(rank_agent, "LOST_S", 1.2)
    with keeping(crew, 0, Puppet([READY, SPOKE])), crew.workers(2, "cpu", []) as workers:
        with keeping(crew, 1, Puppet([READY])):
            assert receive_all(workers) == [READY, READY]
        with pytest.raises(WorkerError, match="rank 1 has given no sign of life"):
            run(workers)


def test_a_stop_does_not_wait_for_a_machine_that_is_lost(crew: Torchrun) -> None:
    """Rank 0 has reported the connection that broke, and nobody knows yet that rank 1's machine is gone."""
    supervisor = Supervisor("cpu", [], crew, ranks=2)

    def measure() -> None:
        with pytest.raises(WorkerError):
            supervisor.run(two_ranks())

    with keeping(crew, 0, first := Puppet([READY, SPOKE])):
        with keeping(crew, 1, Puppet([READY])):
            supervisor.start()
        running = threading.Thread(target=measure, daemon=True)
        running.start()
        until(lambda: not first.lines, seconds=5.0)
        started = time.monotonic()
        supervisor.stop()
        assert time.monotonic() - started < rank_agent.LOST_S / 3
        running.join()


def test_an_error_that_a_rank_reports_is_believed_where_the_silent_rank_is_in_reach(crew: Torchrun) -> None:
    """The silent rank waits in a collective: its agent lives and has nothing to report."""
    with keeping(crew, 0, Puppet([READY, SPOKE])), keeping(crew, 1, waiting := Puppet([READY])):
        with crew.workers(2, "cpu", []) as workers:
            assert receive_all(workers) == [READY, READY]
            assert run(workers) == SPOKE
        until(lambda: not waiting.alive, seconds=5.0)


def test_ranks_on_different_devices_are_no_group(crew: Torchrun) -> None:
    other = Ready(READY.environment.model_copy(update={"device": "Another CPU"}), "unknown")
    supervisor = Supervisor("cpu", [], crew, ranks=2)
    with (
        keeping(crew, 0, Puppet([READY])),
        keeping(crew, 1, Puppet([other])),
        pytest.raises(WorkerError, match="rank 1 measures on Another CPU, rank 0 on A CPU: use machines of one kind"),
    ):
        supervisor.start()
