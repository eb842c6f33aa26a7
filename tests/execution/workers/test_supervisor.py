"""Supervisor: a death or a hang costs one record, and a worker uses what its affinity leaves."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from affinity_kernel import Both, MaskedName
from faulty_kernels import Name
from quick_start import quickly_spawned
from small_tasks import task

from moebench.execution.trial.task import Competitor
from moebench.execution.workers.affinity import Affinity, Cores, Gpus, SharedDevices, share
from moebench.execution.workers.local_worker import LocalWorker, LocalWorkers
from moebench.execution.workers.supervisor import Supervisor
from moebench.execution.workers.worker import WorkerError
from moebench.results.record import Status


@pytest.fixture
def quickly() -> Iterator[None]:
    with quickly_spawned():
        yield


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor("cpu", []) as supervisor:
        yield supervisor


@pytest.mark.exhaustive  # tests of the executor, which uses supervisors, do the same
def test_a_crash_and_a_hang_cost_one_record_each(supervisor: Supervisor) -> None:
    records = supervisor.run(task("loop", "Dies", "Hangs", "scatter", timeout_s=8.0))
    assert {record.kernel: record.status for record in records} == {
        "Dies": Status.crashed,
        "Hangs": Status.timeout,
        "loop": Status.passed,
        "scatter": Status.passed,
    }
    assert len(records) == 4


@pytest.mark.usefixtures("quickly")
def test_a_kernel_whose_file_cannot_be_imported_costs_its_records_alone() -> None:
    """The module is imported before the worker is ready, and in the process that waits for the worker."""
    with Supervisor("cpu", [Name("CannotBeImported"), "loop"]) as supervisor:
        records = {record.kernel: record for record in supervisor.run(task("CannotBeImported", "loop"))}
    assert records["loop"].status is Status.passed
    broken = records["CannotBeImported"]
    assert broken.status is Status.crashed  # its own fault, so that the answer of a run is bad
    assert "cannot be imported (RuntimeError: built for another driver)" in broken.reason


@pytest.mark.usefixtures("quickly")
def test_a_worker_that_was_killed_while_it_waited_costs_no_record(supervisor: Supervisor) -> None:
    supervisor.start()
    (worker,) = supervisor._workers
    assert isinstance(worker, LocalWorker)
    os.kill(worker.pid, signal.SIGKILL)
    worker._process.join()
    assert [record.status for record in supervisor.run(task("loop"))] == [Status.passed]


@pytest.mark.usefixtures("quickly")
def test_memory_that_ends_in_a_sample_is_recorded_as_such_with_the_configuration(supervisor: Supervisor) -> None:
    who = (Competitor(kernel="loop"), Competitor(kernel=Name("RunsOutOfMemoryLater"), config={"tile": 16}))
    records = {record.kernel: record for record in supervisor.run(dataclasses.replace(task(), competitors=who))}
    assert records["loop"].status is Status.passed
    ended = records["RunsOutOfMemoryLater"]
    assert (ended.status, ended.config) == (Status.out_of_memory, {"tile": 16})


@pytest.mark.usefixtures("quickly")
def test_stopping_ends_what_is_measured_in_another_thread_and_starts_nothing_again() -> None:
    supervisor = Supervisor("cpu", [])
    supervisor.start()
    (worker,) = supervisor._workers
    threading.Timer(0.3, supervisor.stop).start()
    started = time.monotonic()
    with pytest.raises(WorkerError, match="stopped"):
        supervisor.run(task("Hangs"))
    assert time.monotonic() - started < 10.0
    assert not worker.running
    with pytest.raises(WorkerError, match="stopped"):
        supervisor.start()


HANGING_RUN = """
from moebench.execution.workers.supervisor import Supervisor
from small_tasks import task

if __name__ == "__main__":
    supervisor = Supervisor("cpu", [])
    supervisor.start()
    print(supervisor._workers[0].pid, flush=True)
    supervisor.run(task("Hangs"))
"""


def test_a_worker_that_hangs_ends_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "hanging.py"
    script.write_text(HANGING_RUN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "support")}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        worker = Path(f"/proc/{int(parent.stdout.readline())}/cmdline")
        time.sleep(1.0)
        assert worker.read_bytes()
        parent.kill()
    deadline = time.monotonic() + 10.0
    while worker.exists() and worker.read_bytes():  # a zombie has no command
        assert time.monotonic() < deadline
        time.sleep(0.1)


CORES = sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("affinity", "seen"),
    [
        pytest.param(
            Both(Gpus(("GPU-17",)), Cores(1, 2)),
            f"GPUs GPU-17, cores {share(CORES, 1, 2)}, {len(CORES) // 2} threads",
            marks=pytest.mark.skipif(len(CORES) < 2, reason="there is one core"),
        ),
        pytest.param(
            SharedDevices(),  # for workers nothing else than the default, whose binding test_affinity.py sees
            f"{len(CORES)} threads, bound to [{CORES[0]}]",
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_a_worker_sees_what_its_affinity_leaves(affinity: Affinity, seen: str) -> None:
    before = os.environ.get("CUDA_VISIBLE_DEVICES"), os.sched_getaffinity(0)
    asked = dataclasses.replace(task(), competitors=(Competitor(kernel=MaskedName("TellsItsMask")),))
    with Supervisor("cpu", [], LocalWorkers(affinity)) as supervisor:
        (record,) = supervisor.run(asked)
    assert seen in record.reason
    assert (os.environ.get("CUDA_VISIBLE_DEVICES"), os.sched_getaffinity(0)) == before


def test_shares_are_disjoint_equal_and_keep_hyperthreads_together(tmp_path: Path) -> None:
    """Eight cores numbered as Linux does it: i and i + 4 are hyperthreads of one."""
    for core in range(8):
        topology = tmp_path / f"cpu{core}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{core % 4},{core % 4 + 4}\n")
    assert [share(range(8), number, 2, tmp_path) for number in range(2)] == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert [len(share(range(8), number, 3, tmp_path)) for number in range(3)] == [2, 2, 2]
    assert share([2, 5, 7], 0, 1, tmp_path / "nothing") == [2, 5, 7]
