"""Workers: a death or a hang has a name, and the next task finds a working group."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from small_tasks import task

from moebench.execution.trial.task import NOBODY
from moebench.execution.workers.worker import HARNESS_S, STARTUP_S, Died, LocalWorker, Ready, _patience_s
from moebench.execution.workers.worker_group import LOCAL_WORKERS, WorkerGroup
from moebench.results.record import Status


@pytest.fixture(scope="module")
def group() -> Iterator[WorkerGroup]:
    group = WorkerGroup(LOCAL_WORKERS, 1, "cpu", [])
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
    assert answer == Died(1, "crashed", "the worker was killed by SIGSEGV", seen=True)
    assert not group.running


def test_a_hang_is_ended_after_the_time_limit(group: WorkerGroup) -> None:
    answer = started(group).run(task("Hangs", "loop", timeout_s=2.0))
    assert answer == Died(0, "timeout", "no answer for 2 s")
    assert not group.running


def test_a_kill_from_outside_is_a_crash_of_whoever_ran(group: WorkerGroup) -> None:
    (worker,) = started(group)._workers
    assert isinstance(worker, LocalWorker)
    threading.Timer(1.0, os.kill, (worker.pid, signal.SIGKILL)).start()
    answer = group.run(task("Hangs"))
    assert answer == Died(0, "crashed", "the worker was killed by SIGKILL (out of memory?)", seen=True)


def test_a_worker_may_draw_for_longer_than_a_competitor_may_hang() -> None:
    """The reference of a large problem is nobody's fault; what is asked for may still be longer."""
    assert _patience_s(None, NOBODY) == STARTUP_S
    assert _patience_s(task("loop", timeout_s=2.0), 0) == 2.0
    assert _patience_s(task("loop", timeout_s=2.0), NOBODY) == HARNESS_S
    assert _patience_s(task("loop", timeout_s=2 * HARNESS_S), NOBODY) == 2 * HARNESS_S
