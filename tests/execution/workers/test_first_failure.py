"""Failures of one rank of two: the rank that died, hung or failed is named, not the rank that waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from faulty_ranks import PARALLEL, TOO_LARGE, RankName
from killed import kill_while_measuring
from listening_sockets import listening, needs_ss
from quick_start import quickly_spawned
from small_tasks import PROBLEM, task

from moebench.execution.trial.task import Budget, Competitor, Task
from moebench.execution.workers.first_failure import LAST_WORDS_S, receive_all
from moebench.execution.workers.local_worker import LOCAL_WORKERS, LocalWorker
from moebench.execution.workers.worker import Died, Ready, Worker
from moebench.results.record import Record, Status


@contextmanager
def two_workers() -> Iterator[Sequence[Worker]]:
    with LOCAL_WORKERS.workers(2, "cpu", [PARALLEL]) as workers:
        ready = receive_all(workers)
        assert isinstance(ready, list), ready
        assert all(isinstance(one, Ready) for one in ready)
        yield workers


@pytest.fixture(scope="module")
def pair() -> Iterator[Sequence[Worker]]:
    """Yield two workers for the tests that both workers survive."""
    with two_workers() as workers:
        yield workers


def pids(workers: Sequence[Worker]) -> list[int]:
    return [worker.pid for worker in workers if isinstance(worker, LocalWorker)]


def asked(kernel: str, timeout_s: float = 60.0) -> Task:
    plain = task(problem=PROBLEM.replace(ranks=2, mode="train"), timeout_s=timeout_s)
    return replace(
        plain, asks=("stages",), competitors=(Competitor(kernel=RankName(kernel)), Competitor(kernel="loop"))
    )


def run(workers: Sequence[Worker], given: Task) -> list[Record] | Died:
    """Give both ranks a task; return the records of rank 0 or the failure."""
    for worker in workers:
        worker.send(given)
    answers = receive_all(workers)
    if isinstance(answers, Died):
        return answers
    records = answers[0]
    assert isinstance(records, list)
    return records


def died(kernel: str, timeout_s: float = 60.0) -> Died:
    """Run a task that kills a worker, on two new workers; return how it ended."""
    with quickly_spawned(), two_workers() as workers:
        answer = run(workers, asked(kernel, timeout_s))
    assert isinstance(answer, Died)
    return answer


def test_ranks_agree_and_share_the_cores(pair: Sequence[Worker]) -> None:
    answer = run(pair, asked(PARALLEL))
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
    assert parallel.stages is not None
    assert {"dispatch", "combine", "communication", "waiting", "backward"} <= parallel.stages.stages_ns.keys()
    assert sum(parallel.stages.stages_ns.values()) <= parallel.stages.whole_ns
    assert refused.status is Status.unsupported
    assert parallel.environment.threads == max(1, parallel.environment.cores // 2)


def test_a_rank_that_sends_more_than_its_routes_ask_for_is_wrong(pair: Sequence[Worker]) -> None:
    answer = run(pair, asked("SendsTooMuch"))
    assert isinstance(answer, list)
    assert answer[0].status is Status.wrong
    assert "by its routes it should be" in answer[0].reason


@pytest.mark.parametrize(
    ("cheat", "reason"), [("KeepsOnRankOne", "y is off by"), ("WritesOnRankOne", "it wrote to its inputs")]
)
def test_what_cheats_on_one_rank_is_wrong_and_the_honest_beside_it_is_not(
    pair: Sequence[Worker], cheat: str, reason: str
) -> None:
    plain = task(problem=PROBLEM.replace(ranks=2))
    kernels = tuple(Competitor(kernel=RankName(kernel)) for kernel in (PARALLEL, cheat, "allgather"))
    answer = run(pair, replace(plain, competitors=kernels, budget=Budget(seconds=0.1, samples=4)))
    assert isinstance(answer, list)
    honest, found, after = answer
    assert honest.status is after.status is Status.passed, honest.reason + after.reason
    assert found.status is Status.wrong
    assert reason in found.reason


def test_memory_that_ends_on_one_rank_before_the_call_ends_it_for_all_in_step(pair: Sequence[Worker]) -> None:
    """The same workers then measure what fits."""
    fits = asked(PARALLEL)
    answer = run(pair, replace(fits, problem=fits.problem.replace(seed=TOO_LARGE)))
    assert isinstance(answer, list)
    assert answer[0].status is Status.out_of_memory
    assert "drawing the inputs and the reference needs about" in answer[0].reason
    again = run(pair, fits)
    assert isinstance(again, list)
    assert again[0].status is Status.passed


@needs_ss
def test_workers_of_one_machine_listen_on_its_loopback_only(pair: Sequence[Worker]) -> None:
    assert listening(pids(pair)) == {"127.0.0.1"}


@pytest.mark.exhaustive  # the next test differs in the signal; test_executor.py kills a worker from outside
def test_a_process_that_is_killed_is_named() -> None:
    with two_workers() as workers:
        assert isinstance(workers[1], LocalWorker)
        for worker in workers:
            worker.send(asked("HangsOnRankOne"))
        kill_while_measuring(workers[1])
        answer = receive_all(workers)
    reason = "the worker on rank 1 was killed by SIGKILL (out of memory?)"
    assert answer == Died(0, "crashed", reason, seen=True)


def test_a_rank_that_takes_its_process_with_it_is_named_and_not_the_connection_that_it_breaks() -> None:
    assert died("DiesOnRankOne") == Died(0, "crashed", "the worker on rank 1 was killed by SIGSEGV", seen=True)


@pytest.mark.exhaustive  # tests/cli/test_ranks.py has the same fault, under torchrun
def test_a_rank_that_hangs_is_named_and_not_the_one_that_waits_for_it() -> None:
    with two_workers() as workers:
        started = time.monotonic()
        answer = run(workers, asked("HangsOnRankOne", timeout_s=4.0))
    assert isinstance(answer, Died)
    assert (answer.culprit, answer.status, answer.reason) == (0, "timeout", "no answer on rank 1 for 4 s")
    assert time.monotonic() - started < 4.0 + LAST_WORDS_S + 10.0


def test_a_rank_that_fails_is_named_with_its_error() -> None:
    answer = died("RaisesOnRankOne")
    assert (answer.culprit, answer.status, answer.reason) == (0, "crashed", "rank 1: RuntimeError: no such luck")


def test_a_call_that_does_not_fit_one_rank_is_out_of_memory() -> None:
    """The other rank waits in the middle of the call."""
    answer = died("RunsOutOfMemoryOnRankOne")
    assert (answer.culprit, answer.status) == (0, "out_of_memory")
    assert answer.reason == "rank 1: OutOfMemoryError: tried to allocate 1000 GiB"
