"""`moebench run` under torchrun: faults cost a record, a lost process ends the run, and running again continues."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from listening_sockets import listening, needs_ss
from shaped_network import network
from torchrun_launcher import SWEEP, Launch, free_port, torchrun, until

from moebench.results.record import Record, Status
from moebench.results.record.store import load

pytestmark = pytest.mark.xdist_group("torchrun")  # several tests share an interrupted sweep

ONE_NODE = ("--standalone", "--nproc-per-node", "2", SWEEP)


def written(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def found(path: Path) -> list[Record]:
    loaded = load(path)
    assert loaded.problems == []
    return loaded.records


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, set[str]]:
    """Run a sweep, and kill one of its processes in the middle of the second point.

    Return its records, its output, and the addresses on which its processes were listening.
    """
    folder = tmp_path_factory.mktemp("torchrun")
    records = folder / "records.jsonl"
    with torchrun(folder / "log", [*ONE_NODE, "run", "stuck", "--output", records]) as launch:
        launch.until(lambda: written(records) == 1)
        everyone = launch.everyone()
        addresses = listening(everyone)
        os.kill(launch.keeper(1), signal.SIGKILL)
        said = launch.wait()
        until(lambda: all(gone(pid) for pid in everyone), seconds=10.0)
    return records, said, addresses


def test_a_process_that_is_killed_ends_the_run_and_what_is_recorded_is_kept(
    stopped: tuple[Path, str, set[str]],
) -> None:
    records, said, _ = stopped
    assert [record.status for record in found(records)] == [Status.passed]
    assert f"interrupted; continue with --output {records}" in said
    assert records.with_suffix(".html").exists()


@needs_ss
def test_on_one_machine_nothing_listens_but_on_its_loopback(stopped: tuple[Path, str, set[str]]) -> None:
    assert stopped[2] == {"127.0.0.1"}


def test_running_again_continues_and_a_rank_that_dies_or_hangs_costs_one_record(
    stopped: tuple[Path, str, set[str]], tmp_path: Path
) -> None:
    records = stopped[0]
    before = records.read_bytes()
    with torchrun(tmp_path / "log", [*ONE_NODE, "run", "faults", "--output", records]) as launch:
        said = launch.wait()
    assert records.read_bytes().startswith(before)
    assert [(record.point.x, record.status, record.reason) for record in found(records)] == [
        (1.0, Status.passed, ""),
        (2.0, Status.crashed, "the worker on rank 1 was killed by SIGSEGV"),
        (3.0, Status.timeout, "no answer on rank 1 for 2 s"),
        (4.0, Status.passed, ""),
        (5.0, Status.unsupported, "3 ranks wanted, there are 2"),
    ]
    assert said.count("[4/4]") == 1  # only rank 0 prints
    assert "exitcode  : 1" in said


def nodes(stack: ExitStack, folder: Path, *lines: Sequence[str | Path], restarts: int = 0) -> list[Launch]:
    """Two nodes of one rank each, both on this machine, are started by separate command lines."""
    where = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    return [
        stack.enter_context(
            torchrun(
                folder / f"node {node}",
                [*where, "--node-rank", str(node), "--max-restarts", str(restarts), SWEEP, *line],
            )
        )
        for node, line in enumerate(lines)
    ]


@pytest.mark.slow
def test_a_lost_node_is_named_and_ends_the_run(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    line = ["run", "stuck", "--output", str(records)]
    with ExitStack() as stack:
        here, there = nodes(stack, tmp_path, line, line)
        here.until(lambda: written(records) == 1)
        os.kill(there.keeper(0), signal.SIGKILL)
        said = here.wait()
    assert "moebench: the process that watches over rank 1 has given no sign of life for 10 s and is lost" in said
    assert "exitcode  : 2" in said
    assert [record.status for record in found(records)] == [Status.passed]


@pytest.mark.slow
def test_ranks_with_different_command_lines_are_refused_on_both(tmp_path: Path) -> None:
    with ExitStack() as stack:
        both = nodes(stack, tmp_path, ["run", "calm"], ["run", "calm", "--device", "cpu"])
        for said in [launch.wait() for launch in both]:
            assert (
                "moebench: rank 1 differs from rank 0 in command line: run calm --device cpu / run calm: "
                "start the same moebench in the same way on every machine"
            ) in said
            assert "exitcode  : 2" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node 0", "node 1"]


@pytest.mark.slow
def test_what_torchrun_starts_again_continues(tmp_path: Path) -> None:
    """One node loses its process and starts it again; the other finds that out, leaves, and is started again too."""
    records = tmp_path / "records.jsonl"
    line = ["run", "long", "--output", str(records)]
    with ExitStack() as stack:
        here, there = nodes(stack, tmp_path, line, line, restarts=1)
        here.until(lambda: written(records) == 1)
        os.kill(there.keeper(0), signal.SIGKILL)
        said = here.wait()
        there.wait()
    assert "has given no sign of life for 10 s" in said
    assert [(record.point.x, record.status) for record in found(records)] == [
        (float(x), Status.passed) for x in range(1, 4)
    ]
    assert (here.process.returncode, there.process.returncode) == (0, 0)


@pytest.mark.slow
@needs_ss
def test_on_several_machines_ranks_talk_through_what_reaches_the_master_and_listen_nowhere_else(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    where = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "10.77.0.1", "--master-port", "29500"]
    with network(2, 100e6) as machines, ExitStack() as stack:
        launches = [
            stack.enter_context(
                torchrun(
                    tmp_path / f"node {number}",
                    [*where, "--node-rank", str(number), SWEEP, "run", "long", "--output", records],
                    machine.inside,
                )
            )
            for number, machine in enumerate(machines)
        ]
        launches[0].until(lambda: written(records) > 0)
        addresses = [
            listening(launch.everyone(), machine.inside("ss"))
            for launch, machine in zip(launches, machines, strict=True)
        ]
        assert addresses == [{machine.address} for machine in machines]
        said = launches[0].wait()
        crossed = machines[0].counters().sent
    (first, *_) = made = found(records)
    assert [record.status for record in made] == [Status.passed] * 3, said
    assert crossed > first.sent_bytes[0] * sum(len(record.timing.samples_ns) for record in made if record.timing)
