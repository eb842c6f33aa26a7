"""Groups of two ranks: they agree; where one dies, hangs or fails, it is named and not the one that waits for it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from faulty_ranks import PARALLEL, TOO_LARGE, RankName
from listening_sockets import listening, needs_ss
from small_tasks import PROBLEM, task

from moebench.execution.trial.task import Competitor, Task
from moebench.execution.workers.worker import Died, LocalWorker
from moebench.execution.workers.worker_group import LAST_WORDS_S, LOCAL_WORKERS, WorkerGroup
from moebench.results.record import Status


@pytest.fixture(scope="module")
def pair() -> Iterator[WorkerGroup]:
    group = WorkerGroup(LOCAL_WORKERS, 2, "cpu", [PARALLEL])
    yield group
    group.stop()


def pids(group: WorkerGroup) -> list[int]:
    return [worker.pid for worker in group._workers if isinstance(worker, LocalWorker)]


def asked(kernel: str, timeout_s: float = 60.0) -> Task:
    plain = task(problem=PROBLEM.replace(ranks=2, mode="train"), timeout_s=timeout_s)
    return replace(plain, competitors=(Competitor(kernel=RankName(kernel)), Competitor(kernel="loop")))


def run(group: WorkerGroup, kernel: str, timeout_s: float = 60.0) -> Died:
    """A task that ends in a death; what it took after the fault is at most what is promised."""
    if not group.running:
        group.start()
    died = group.run(asked(kernel, timeout_s))
    assert isinstance(died, Died)
    assert not group.running
    return died


def test_ranks_agree_and_share_the_cores(pair: WorkerGroup) -> None:
    pair.start()
    answer = pair.run(asked(PARALLEL))
    assert isinstance(answer, list)
    parallel, refused = answer
    assert parallel.status is Status.passed, parallel.reason
    assert parallel.traffic is not None
    assert parallel.sent_bytes == parallel.traffic.node_bytes
    assert all(sent > 0 for sent in parallel.sent_bytes)
    assert parallel.phases is not None
    assert all(len(of_ranks) == 2 for of_ranks in parallel.phases.model_dump().values())
    assert min(parallel.phases.compute_ns + parallel.phases.communication_ns) > 0
    assert parallel.phases.overlap < 0.1  # one chunk hides nothing
    assert refused.status is Status.unsupported
    assert parallel.environment.threads == max(1, parallel.environment.cores // 2)


def test_a_rank_that_sends_more_than_its_routes_ask_for_is_wrong(pair: WorkerGroup) -> None:
    if not pair.running:
        pair.start()
    answer = pair.run(asked("SendsTooMuch"))
    assert isinstance(answer, list)
    assert answer[0].status is Status.wrong
    assert "by its routes it should be" in answer[0].reason


def test_memory_that_ends_on_one_rank_before_the_call_ends_it_for_all_in_step(pair: WorkerGroup) -> None:
    """The same workers then measure what fits."""
    if not pair.running:
        pair.start()
    fits = asked(PARALLEL)
    answer = pair.run(replace(fits, problem=fits.problem.replace(seed=TOO_LARGE)))
    assert isinstance(answer, list)
    assert answer[0].status is Status.out_of_memory
    assert "drawing the inputs and the reference needs about" in answer[0].reason
    again = pair.run(fits)
    assert isinstance(again, list)
    assert again[0].status is Status.passed


@needs_ss
def test_workers_of_one_machine_listen_on_its_loopback_only(pair: WorkerGroup) -> None:
    if not pair.running:
        pair.start()
    assert listening(pids(pair)) == {"127.0.0.1"}


def test_a_process_that_is_killed_is_named(pair: WorkerGroup) -> None:
    if not pair.running:
        pair.start()
    threading.Timer(1.0, os.kill, (pids(pair)[1], signal.SIGKILL)).start()
    died = run(pair, "HangsOnRankOne")
    assert died == Died(0, "crashed", "the worker on rank 1 was killed by SIGKILL (out of memory?)", seen=True)


def test_a_rank_that_takes_its_process_with_it_is_named_and_not_the_connection_that_it_breaks(
    pair: WorkerGroup,
) -> None:
    died = run(pair, "DiesOnRankOne")
    assert died == Died(0, "crashed", "the worker on rank 1 was killed by SIGSEGV", seen=True)


def test_a_rank_that_hangs_is_named_and_not_the_one_that_waits_for_it(pair: WorkerGroup) -> None:
    if not pair.running:
        pair.start()
    started = time.monotonic()
    died = run(pair, "HangsOnRankOne", timeout_s=4.0)
    assert (died.culprit, died.status, died.reason) == (0, "timeout", "no answer on rank 1 for 4 s")
    assert time.monotonic() - started < 4.0 + LAST_WORDS_S + 10.0


def test_a_rank_that_fails_is_named_with_its_error(pair: WorkerGroup) -> None:
    died = run(pair, "RaisesOnRankOne")
    assert (died.culprit, died.status, died.reason) == (0, "crashed", "rank 1: RuntimeError: no such luck")


def test_a_call_that_does_not_fit_one_rank_is_out_of_memory(pair: WorkerGroup) -> None:
    """The other rank waits in the middle of it: the workers are replaced."""
    died = run(pair, "RunsOutOfMemoryOnRankOne")
    assert (died.culprit, died.status) == (0, "out_of_memory")
    assert died.reason == "rank 1: OutOfMemoryError: tried to allocate 1000 GiB"
