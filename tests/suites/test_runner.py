"""The runner: competitors are isolated, runs can be resumed, and machines are never mixed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from records import ENVIRONMENT, record
from small_tasks import PROBLEM, point, task

from moebench.execution.trial.task import Task
from moebench.execution.workers.executor import Executor
from moebench.execution.workers.local_executor import local_executor
from moebench.execution.workers.worker import Ready, WorkerError
from moebench.results.record import Record, Status
from moebench.results.record.store import Store, StoreError, load
from moebench.suites.resume import pending
from moebench.suites.runner import Runner

ONE_SLOT = partial(local_executor, "cpu")
pytestmark = pytest.mark.usefixtures("quick_start")


def run(path: Path, *asked: str) -> list[Record]:
    with Store(path) as store:
        left = pending([task(*asked)], store.loaded.records, "cpu").tasks
        return [record for progress in Runner(store, ONE_SLOT).run(left) for record in progress.records]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the file of a run in which two of four competitors did not survive."""
    path = tmp_path_factory.mktemp("runs") / "records.jsonl"
    run(path, "loop", "Dies", "scatter", "Raises")
    return path


def test_a_death_costs_its_culprit_one_record_and_no_other_kernel_anything(records: Path) -> None:
    found = {record.kernel: record for record in load(records).records}
    assert {name: record.status for name, record in found.items()} == {
        "loop": Status.passed,
        "Dies": Status.crashed,
        "scatter": Status.passed,
        "Raises": Status.crashed,
    }
    assert "SIGSEGV" in found["Dies"].reason
    assert found["Dies"].environment == found["loop"].environment


def test_running_again_measures_only_what_is_missing(records: Path) -> None:
    before = records.read_bytes()
    made = run(records, "loop", "Dies", "scatter", "grouped")
    assert [record.kernel for record in made] == ["grouped"]
    assert records.read_bytes().startswith(before)
    assert len(load(records).records) == 5


def test_records_of_another_machine_are_not_continued(records: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.jsonl"
    record = load(records).records[0]
    other = record.model_copy(update={"environment": record.environment.model_copy(update={"device": "Another CPU"})})
    with Store(foreign) as store:
        store.append(other)
    with pytest.raises(StoreError, match=r"device: Another CPU / .*give another --output"):
        run(foreign, "grouped")
    assert load(foreign).records == [other]


SLOW_RUN = """
import sys
from functools import partial
from pathlib import Path
from moebench.execution.workers.local_executor import local_executor
from moebench.results.record.store import Store
from moebench.suites.resume import pending
from moebench.suites.runner import Runner
from small_tasks import task

if __name__ == "__main__":
    with Store(Path(sys.argv[1])) as store:
        tasks = [task("loop", "scatter", x=float(x)) for x in range(8)]
        runner = Runner(store, partial(local_executor, "cpu"))
        for progress in runner.run(pending(tasks, store.loaded.records, "cpu").tasks):
            print(progress.done, flush=True)
"""


def test_a_killed_run_is_continued_without_loss_or_doubles(tmp_path: Path) -> None:
    """SIGKILL in the middle of a point: what was written stays, the rest is measured, no worker is left behind."""
    script, path = tmp_path / "slow.py", tmp_path / "records.jsonl"
    script.write_text(SLOW_RUN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    with subprocess.Popen(
        [sys.executable, str(script), str(path)], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["1\n", "2\n"]
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    kept = load(path).records
    assert len(kept) >= 4
    with Store(path) as store:
        left = pending([task("loop", "scatter", x=float(x)) for x in range(8)], store.loaded.records, "cpu").tasks
        assert list(Runner(store, ONE_SLOT).run(left))
    loaded = load(path)
    assert loaded.records[: len(kept)] == kept
    assert loaded.problems == []
    assert sorted((record.point.x, record.kernel) for record in loaded.records) == sorted(
        (point(float(x)).x, kernel) for x in range(8) for kernel in ("loop", "scatter")
    )


class FakeSlot:
    """Slot without workers, whose records are of commit ``name``; one that ``fails`` does so at its first task."""

    def __init__(self, name: str, together: threading.Barrier, *, fails: bool = False) -> None:
        self.name = name
        self.together = together
        self.fails = fails
        self.given = 0

    def start(self) -> Ready:
        return Ready(ENVIRONMENT, "0123abc")

    def run(self, task: Task) -> list[Record]:
        self.given += 1
        if self.given == 1:
            self.together.wait(timeout=30.0)  # passed only when both slots have a task
        if self.fails:
            raise WorkerError("the GPU fell off the bus")
        return [
            record(point=task.point, key=task.problem.key, kernel=who.kernel, commit=self.name)
            for who in task.competitors
        ]

    def stop(self) -> None:
        return


def test_two_slots_measure_side_by_side_into_one_store(tmp_path: Path) -> None:
    """Both slots have a task at the same time, and every task has its record once."""
    together = threading.Barrier(2)
    slots = {name: FakeSlot(name, together) for name in ("a", "b")}
    with Store(tmp_path / "records.jsonl") as store:
        runner = Runner(store, lambda _kernels, _ranks: Executor(slots))
        progress = list(runner.run([task("loop", "scatter", x=float(x)) for x in range(6)]))
    loaded = load(tmp_path / "records.jsonl").records
    assert sorted((one.point.x, one.kernel) for one in loaded) == [
        (float(x), kernel) for x in range(6) for kernel in ("loop", "scatter")
    ]
    assert {one.commit for one in loaded} == {"a", "b"}
    assert [one.done for one in progress] == [1, 2, 3, 4, 5, 6]
    assert runner.losses == []


def test_a_slot_that_fails_is_named_and_the_other_measures_its_points(tmp_path: Path) -> None:
    together = threading.Barrier(2)
    slots = {"a": FakeSlot("a", together, fails=True), "b": FakeSlot("b", together)}
    with Store(tmp_path / "records.jsonl") as store:
        runner = Runner(store, lambda _kernels, _ranks: Executor(slots))
        list(runner.run([task("loop", x=float(x)) for x in range(4)]))
    loaded = load(tmp_path / "records.jsonl").records
    assert sorted((one.point.x, one.commit) for one in loaded) == [(float(x), "b") for x in range(4)]
    assert runner.losses == ["a: the GPU fell off the bus"]


@pytest.mark.exhaustive  # tests of the executor kill workers of two slots too
def test_a_worker_that_dies_in_one_of_two_slots_costs_only_its_own_record(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two slots need a core each")
    with Store(tmp_path / "records.jsonl") as store:
        runner = Runner(store, partial(local_executor, "cpu", slots=2))
        list(runner.run([task("Dies", x=0.0), *(task("loop", x=float(x)) for x in range(1, 4))]))
    found = {one.point.x: one.status for one in load(tmp_path / "records.jsonl").records}
    assert found == {0.0: Status.crashed, 1.0: Status.passed, 2.0: Status.passed, 3.0: Status.passed}


def test_points_of_as_many_ranks_share_an_executor_with_as_many_devices_in_a_slot(tmp_path: Path) -> None:
    opened: list[tuple[Sequence[str], int]] = []

    def open_executor(kernels: Sequence[str], ranks: int) -> Executor:
        opened.append((kernels, ranks))
        return Executor({"a": FakeSlot("a", threading.Barrier(1))}, most_ranks=ranks)

    two = PROBLEM.replace(ranks=2)
    tasks = [task("loop", x=1.0), task("alltoall", problem=two, x=2.0), task("scatter", x=3.0)]
    with Store(tmp_path / "records.jsonl") as store:
        assert [one.task.point.x for one in Runner(store, open_executor).run(tasks)] == [1.0, 3.0, 2.0]
    assert opened == [(["loop", "scatter"], 1), (["alltoall"], 2)]
