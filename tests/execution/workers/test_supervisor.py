"""Supervisor: whoever dies or hangs costs one record, and a worker uses what its mask leaves."""

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
from affinity_kernel import MaskedName
from faulty_kernels import Name
from small_tasks import task

from moebench.execution.trial.task import Competitor
from moebench.execution.workers.affinity import Affinity, Cores, OneGpu, PinnedThreads, share
from moebench.execution.workers.supervisor import Supervisor
from moebench.execution.workers.worker import LocalWorker, WorkerError
from moebench.execution.workers.worker_group import LocalWorkers
from moebench.results.record import Status


@pytest.fixture(scope="module")
def isolated() -> Iterator[Supervisor]:
    with Supervisor("cpu", []) as isolated:
        yield isolated


def test_a_crash_and_a_hang_cost_one_record_each(isolated: Supervisor) -> None:
    records = isolated.run(task("loop", "Dies", "Hangs", "scatter", timeout_s=8.0))
    assert {record.kernel: record.status for record in records} == {
        "Dies": Status.crashed,
        "Hangs": Status.timeout,
        "loop": Status.passed,
        "scatter": Status.passed,
    }
    assert len(records) == 4
    spent = isolated.spent
    assert spent.startup_s > 0
    assert spent.trials_s > 8.0 > spent.timed_s > 0


def test_a_kernel_whose_file_cannot_be_imported_costs_its_records_alone() -> None:
    """It is imported before the worker is ready, and in the process that waits for the worker."""
    with Supervisor("cpu", [Name("CannotBeImported"), "loop"]) as isolated:
        records = {record.kernel: record for record in isolated.run(task("CannotBeImported", "loop"))}
    assert records["loop"].status is Status.passed
    broken = records["CannotBeImported"]
    assert broken.status is Status.crashed  # its own fault, so that the answer of a run is bad
    assert "cannot be imported (RuntimeError: built for another driver)" in broken.reason


def test_memory_that_ends_in_a_sample_is_told_as_such(isolated: Supervisor) -> None:
    records = isolated.run(task("loop", "RunsOutOfMemoryLater"))
    assert {record.kernel: record.status for record in records} == {
        "RunsOutOfMemoryLater": Status.out_of_memory,
        "loop": Status.passed,
    }


def test_an_obituary_keeps_the_configuration_that_died(isolated: Supervisor) -> None:
    asked = dataclasses.replace(task(), competitors=(Competitor(kernel=Name("Dies"), config={"tile": 16}),))
    (record,) = isolated.run(asked)
    assert (record.status, record.config) == (Status.crashed, {"tile": 16})


def test_a_worker_that_was_killed_while_it_waited_costs_nobody_a_record(isolated: Supervisor) -> None:
    isolated.open()
    assert isolated._group is not None
    (worker,) = isolated._group._workers
    assert isinstance(worker, LocalWorker)
    os.kill(worker.pid, signal.SIGKILL)
    worker._process.join()
    assert [record.status for record in isolated.run(task("loop"))] == [Status.passed]


def test_closing_ends_what_is_measured_in_another_thread_and_starts_nothing_again() -> None:
    isolated = Supervisor("cpu", [])
    isolated.open()
    assert isolated._group is not None
    (worker,) = isolated._group._workers
    threading.Timer(1.0, isolated.close).start()
    started = time.monotonic()
    with pytest.raises(WorkerError, match="closed"):
        isolated.run(task("Hangs"))
    assert time.monotonic() - started < 10.0
    assert not worker.running
    with pytest.raises(WorkerError, match="closed"):
        isolated.open()


HANGING_RUN = """
from moebench.execution.workers.worker_group import LocalWorkers
from moebench.execution.workers.supervisor import Supervisor
from small_tasks import task

if __name__ == "__main__":
    isolated = Supervisor("cpu", [])
    isolated.open()
    print(isolated._group._workers[0].pid, flush=True)
    isolated.run(task("Hangs"))
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


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (OneGpu("GPU-17"), f"GPUs GPU-17, cores {sorted(os.sched_getaffinity(0))}"),
        (PinnedThreads(), f"{len(os.sched_getaffinity(0))} threads"),
        pytest.param(
            Cores(1, 2),
            f"cores {share(sorted(os.sched_getaffinity(0)), 1, 2)}, {len(os.sched_getaffinity(0)) // 2} threads",
            marks=pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core"),
        ),
    ],
)
def test_a_worker_sees_what_its_mask_leaves(mask: Affinity, told: str) -> None:
    before = os.environ.get("CUDA_VISIBLE_DEVICES"), os.sched_getaffinity(0)
    asked = dataclasses.replace(task(), competitors=(Competitor(kernel=MaskedName("TellsItsMask")),))
    with Supervisor("cpu", [], LocalWorkers(mask)) as isolated:
        (record,) = isolated.run(asked)
    assert told in record.reason
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
