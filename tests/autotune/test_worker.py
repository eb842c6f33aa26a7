"""Workers: a death or a hang has a name, and the next task finds a working group."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from points import PROBLEM, task

from moebench.autotune.task import NOBODY
from moebench.autotune.worker import HARNESS_S, STARTUP_S, Died, Ready, WorkerGroup, _patience_s
from moebench.results.record import Status


@pytest.fixture(scope="module")
def group() -> Iterator[WorkerGroup]:
    group = WorkerGroup("cpu", 1, [])
    yield group
    group.stop()


def started(group: WorkerGroup) -> WorkerGroup:
    if not group.running:
        assert isinstance(group.start(), Ready)
    return group


def test_records_come_back(group: WorkerGroup) -> None:
    answer = started(group).run(task("loop", "scatter"))
    assert isinstance(answer, list)
    assert [record.status for record in answer] == [Status.passed, Status.passed]


def test_a_death_names_its_culprit_and_the_signal(group: WorkerGroup) -> None:
    answer = started(group).run(task("loop", "Dies"))
    assert answer == Died(1, "crashed", "the worker was killed by SIGSEGV")
    assert not group.running


def test_a_hang_is_ended_after_the_time_limit(group: WorkerGroup) -> None:
    answer = started(group).run(task("Hangs", "loop", timeout_s=2.0))
    assert answer == Died(0, "timeout", "no answer for 2 s")
    assert not group.running


def test_a_kill_from_outside_is_a_crash_of_whoever_ran(group: WorkerGroup) -> None:
    (process,) = started(group)._processes
    assert process.pid is not None
    threading.Timer(1.0, os.kill, (process.pid, signal.SIGKILL)).start()
    answer = group.run(task("Hangs"))
    assert answer == Died(0, "crashed", "the worker was killed by SIGKILL (out of memory?)")


def test_two_ranks_agree_and_the_death_of_one_ends_both() -> None:
    group = WorkerGroup("cpu", 2, ["alltoall"])
    try:
        group.start()
        problem = PROBLEM.replace(ranks=2, mode="train")
        answer = group.run(task("alltoall", "loop", "Chatters", problem=problem))
        assert isinstance(answer, list)
        parallel, refused, lying = answer
        assert parallel.status is Status.passed, parallel.reason
        assert parallel.traffic is not None
        assert parallel.sent_bytes == parallel.traffic.node_bytes
        assert all(sent > 0 for sent in parallel.sent_bytes)
        assert parallel.phases is not None
        assert all(len(of_ranks) == 2 for of_ranks in parallel.phases.model_dump().values())
        assert min(parallel.phases.compute_ns + parallel.phases.communication_ns) > 0
        assert parallel.phases.overlap < 0.1  # one chunk hides nothing
        assert lying.status is Status.wrong
        assert "by its routes it should be" in lying.reason
        assert refused.status is Status.unsupported
        assert parallel.environment.threads == max(1, parallel.environment.cores // 2)
        os.kill(group._processes[1].pid or 0, signal.SIGKILL)
        died = group.run(task("alltoall", problem=problem, timeout_s=30.0))
        assert isinstance(died, Died)
        assert died.status == "crashed"
        assert died.culprit in (0, NOBODY)
        assert "rank 1 was killed by SIGKILL" in died.reason
        assert not group.running
    finally:
        group.stop()


def test_a_worker_may_draw_for_longer_than_a_competitor_may_hang() -> None:
    """The reference of a large problem is nobody's fault; what is asked for may still be longer."""
    assert _patience_s(None, NOBODY) == STARTUP_S
    assert _patience_s(task("loop", timeout_s=2.0), 0) == 2.0
    assert _patience_s(task("loop", timeout_s=2.0), NOBODY) == HARNESS_S
    assert _patience_s(task("loop", timeout_s=2 * HARNESS_S), NOBODY) == 2 * HARNESS_S
