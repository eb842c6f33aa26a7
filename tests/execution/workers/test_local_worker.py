"""Workers of this machine: a death and a hang are reported with their cause."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from killed import kill_while_measuring
from small_tasks import task

from moebench.execution.trial.task import NOBODY
from moebench.execution.workers.first_failure import receive_all
from moebench.execution.workers.local_worker import HARNESS_S, LOCAL_WORKERS, LocalWorker, _patience_s
from moebench.execution.workers.worker import STARTUP_S, Answer, Died, Ready
from moebench.results.record import Status

pytestmark = pytest.mark.usefixtures("quick_start")


@pytest.fixture
def worker() -> Iterator[LocalWorker]:
    with LOCAL_WORKERS.workers(1, "cpu", []) as (worker,):
        assert isinstance(worker, LocalWorker)
        assert isinstance(received(worker), Ready)
        yield worker


def received(worker: LocalWorker) -> Answer:
    answers = receive_all([worker])
    return answers if isinstance(answers, Died) else answers[0]


def test_records_come_back_and_a_death_names_its_culprit_and_the_signal(worker: LocalWorker) -> None:
    worker.send(task("loop", "scatter"))
    answer = received(worker)
    assert isinstance(answer, list)
    assert [record.status for record in answer] == [Status.passed, Status.passed]
    worker.send(task("loop", "Dies"))
    assert received(worker) == Died(1, "crashed", "the worker was killed by SIGSEGV", seen=True)
    assert not worker.running


def test_a_hang_is_reported_after_the_time_limit(worker: LocalWorker) -> None:
    worker.send(task("Hangs", "loop", timeout_s=1.0))
    assert received(worker) == Died(0, "timeout", "no answer for 1 s")


def test_a_kill_from_outside_is_a_crash_of_the_competitor_that_ran(worker: LocalWorker) -> None:
    worker.send(task("Hangs"))
    kill_while_measuring(worker)
    assert received(worker) == Died(0, "crashed", "the worker was killed by SIGKILL (out of memory?)", seen=True)


def test_a_worker_may_draw_for_longer_than_a_competitor_may_hang() -> None:
    """The reference of a large problem is no competitor's fault; a longer limit of the task still holds."""
    assert _patience_s(None, NOBODY) == STARTUP_S
    assert _patience_s(task("loop", timeout_s=2.0), 0) == 2.0
    assert _patience_s(task("loop", timeout_s=2.0), NOBODY) == HARNESS_S
    assert _patience_s(task("loop", timeout_s=2 * HARNESS_S), NOBODY) == 2 * HARNESS_S
