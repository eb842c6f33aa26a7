"""Executors: every task is finished once, whatever is lost, killed or interrupted on the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from killed import kill_while_measuring
from records import ENVIRONMENT
from small_tasks import PROBLEM, point, task

from moebench.execution.trial.task import Task
from moebench.execution.workers.affinity import Gpus
from moebench.execution.workers.executor import RETRIES, Executor, ExecutorError, SlotLost
from moebench.execution.workers.local_executor import _gpus, local_executor
from moebench.execution.workers.local_worker import LocalWorker
from moebench.execution.workers.supervisor import Supervisor
from moebench.execution.workers.worker import Ready, WorkerError
from moebench.results.record import Record, Status

TWO_CORES = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two slots want a core each")


class FakeSlot:
    """Slot without workers. It returns no records; a task at ``x`` in ``fatal`` makes it raise instead."""

    def __init__(self, ready: Ready | None = None, fatal: dict[float, Exception] | None = None) -> None:
        self.ready = ready or Ready(ENVIRONMENT, "0123abc")
        self.fatal = fatal or {}
        self.started = 0
        self.asked: list[float | str] = []

    def start(self) -> Ready:
        self.started += 1
        return self.ready

    def run(self, task: Task) -> list[Record]:
        self.asked.append(task.point.x)
        if isinstance(task.point.x, float) and task.point.x in self.fatal:
            raise self.fatal[task.point.x]
        time.sleep(0.01)
        return []

    def stop(self) -> None:
        return


def answers(executor: Executor, count: int) -> list[float | str]:
    """Return the x of the tasks that are finished next, sorted."""
    return sorted(executor.next().task.point.x for _ in range(count))


def test_a_task_whose_slot_is_lost_is_answered_once_by_another() -> None:
    lost = FakeSlot(fatal={3.0: SlotLost("the node went down")})
    with Executor({"a": lost, "b": FakeSlot()}) as executor:
        for x in range(20):
            executor.submit(task("loop", x=float(x)))
        assert answers(executor, 20) == list(range(20))
        with pytest.raises(LookupError, match="submit one"):
            executor.next()
        assert executor.losses in ([], ["a: the node went down"])
        assert lost.started == 1 + len(executor.losses)


def test_a_task_that_loses_every_slot_is_recorded_as_crashed_and_the_others_are_answered() -> None:
    slots = {name: FakeSlot(fatal={1.0: SlotLost("gone")}) for name in ("a", "b")}
    with Executor(slots) as executor:
        for x in range(4):
            executor.submit(task("loop", "scatter", x=float(x)))
        found = {finished.task.point.x: finished.records for finished in (executor.next() for _ in range(4))}
    assert sorted(found) == [0.0, 1.0, 2.0, 3.0]
    assert [(record.kernel, record.status) for record in found[1.0]] == [
        ("loop", Status.crashed),
        ("scatter", Status.crashed),
    ]
    assert "lost 4 times" in found[1.0][0].reason
    assert found[1.0][0].point == point(1.0)
    assert sum(slot.asked.count(1.0) for slot in slots.values()) == 1 + RETRIES


def test_when_no_slot_is_left_its_error_is_raised_where_a_caller_waits() -> None:
    broken = {x: WorkerError("the GPU fell off the bus") for x in (0.0, 1.0)}
    with Executor({"a": FakeSlot(fatal=dict(broken)), "b": FakeSlot(fatal=dict(broken))}) as executor:
        for x in range(2):
            executor.submit(task("loop", x=float(x)))
        with pytest.raises(WorkerError, match="fell off the bus"):
            executor.next()


def test_slots_that_differ_are_refused_by_name_and_field() -> None:
    other = Ready(ENVIRONMENT.model_copy(update={"device": "another CPU"}), "fedcba9")
    with (
        pytest.raises(ExecutorError, match=r"(a and b|b and a) differ \(device: .*; commit: .*one kind"),
        Executor({"a": FakeSlot(), "b": FakeSlot(other)}),
    ):
        pass


def test_a_replacement_that_differs_is_not_measured_on() -> None:
    slot = FakeSlot(fatal={1.0: SlotLost("gone")})
    with Executor({"a": slot}) as executor:
        slot.ready = Ready(ENVIRONMENT.model_copy(update={"device": "another CPU"}), "0123abc")
        executor.submit(task("loop"))
        with pytest.raises(ExecutorError, match="device: a CPU / another CPU"):
            executor.next()


def test_a_task_of_more_ranks_than_a_slot_has_is_refused() -> None:
    ranks = task("alltoall", problem=PROBLEM.replace(ranks=2))
    with (
        Executor({"a": FakeSlot(), "b": FakeSlot()}, most_ranks=1) as executor,
        pytest.raises(ExecutorError, match=r"has 2 ranks.*has 1: .*one slot"),
    ):
        executor.submit(ranks)
    for most_ranks in (2, None):
        with Executor({"a": FakeSlot(), "b": FakeSlot()}, most_ranks) as executor:
            executor.submit(ranks)
            assert executor.next().task == ranks


@pytest.mark.parametrize(
    ("visible", "ranks", "slots", "groups"),
    [
        (None, 1, None, [("0",), ("1",), ("2",)]),
        ("3, GPU-8a,5,-1,2", 1, None, [("3",), ("GPU-8a",), ("5",)]),
        ("3,5,7", 1, 2, [("3",), ("5",)]),
        ("3,5,7", 2, None, [("3", "5")]),
        (None, 3, 1, [("0", "1", "2")]),
    ],
)
def test_each_slot_has_as_many_gpus_as_ranks_of_those_that_are_visible(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, ranks: int, slots: int | None, groups: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list(_gpus(ranks, slots).values()) == [Gpus(group) for group in groups]
    with pytest.raises(ExecutorError, match="sees 3 CUDA devices, 4 wanted"):
        local_executor("cuda", [], ranks=2, slots=2)


def test_more_slots_than_cores_are_refused() -> None:
    with pytest.raises(ExecutorError, match="10000 slots need a core each"):
        local_executor("cpu", [], slots=10_000)


@pytest.fixture(scope="module")
def two() -> Iterator[Executor]:
    with local_executor("cpu", [], slots=2) as executor:
        yield executor


@TWO_CORES
def test_two_slots_work_side_by_side_on_cores_of_their_own_and_give_each_task_once(two: Executor) -> None:
    assert two.slots == 2
    assert two.environment.cores == len(os.sched_getaffinity(0)) // 2
    started = time.monotonic()
    for x in range(6):
        two.submit(task("loop", "scatter", x=float(x)))
    finished = [two.next() for _ in range(6)]
    assert sum(answer.seconds for answer in finished) > 1.2 * (time.monotonic() - started)
    assert sorted(answer.task.point.x for answer in finished) == list(range(6))
    assert all(record.environment == two.environment for answer in finished for record in answer.records)


@TWO_CORES
def test_a_crash_and_a_hang_cost_one_record(two: Executor) -> None:
    two.submit(task("loop", "Dies", x=1.0))
    two.submit(task("Hangs", "loop", x=2.0, timeout_s=2.0))
    found = {answer.task.point.x: answer.records for answer in (two.next(), two.next())}
    assert [[record.status for record in found[x]] for x in (1.0, 2.0)] == [
        [Status.crashed, Status.passed],
        [Status.timeout, Status.passed],
    ]
    assert two.losses == []


@TWO_CORES
def test_a_worker_killed_from_outside_costs_one_record_of_its_own_slot(two: Executor) -> None:
    (killed, _) = two._slots.values()
    assert isinstance(killed, Supervisor)
    (worker,) = killed._workers
    assert isinstance(worker, LocalWorker)
    two.submit(task("Hangs", x=1.0, timeout_s=2.0))
    two.submit(task("Hangs", x=2.0, timeout_s=2.0))
    kill_while_measuring(worker)
    found = [record.status for answer in (two.next(), two.next()) for record in answer.records]
    assert found == [Status.crashed, Status.timeout]


@contextmanager
def ctrl_c(after_s: float) -> Iterator[None]:
    """Send Ctrl-C to this process while it waits in its main thread."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("quick_start")
def test_after_ctrl_c_what_is_under_way_is_given_or_ended_at_once() -> None:
    with local_executor("cpu", []) as executor:
        executor.submit(task("Hangs", x=1.0, timeout_s=1.0))
        with ctrl_c(0.2):
            executor.next()
        assert [record.status for record in executor.next().records] == [Status.timeout]
        executor.submit(task("Hangs", x=2.0))
        with ctrl_c(0.2):
            executor.next()
        started = time.monotonic()
    assert time.monotonic() - started < 10.0
