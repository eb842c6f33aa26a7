"""OpenMP threads of a worker: they wait briefly, each on a core of its own, unless the user has decided otherwise."""

from __future__ import annotations

import multiprocessing.process
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from moebench.common.cores import usable_cores
from moebench.execution.workers.affinity import SPINS
from moebench.execution.workers.local_worker import LocalWorker
from moebench.execution.workers.rendezvous import FileRendezvous, RankInfo
from moebench.kernels.compiler.compilers import _Compiler
from moebench.kernels.compiler.machine_code import all_counters
from moebench.suites.firstlight.process import run
from moebench.suites.gate.checkouts import Side

# In a process of its own, because it binds the thread and changes the environment.
PREPARED = """
import os, sys
from moebench.execution.workers.affinity import prepare_threads
prepare_threads(int(sys.argv[1]), int(sys.argv[2]))
share = sorted(os.sched_getaffinity(0))
if sys.argv[3:]:
    import torch
print(share, len(os.sched_getaffinity(0)), os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_PROC_BIND"), sep=";")
"""
# Ends when torch is imported, with the variables that torch would have read.
IMPORTING = """
import os, sys

class Torch:
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_PROC_BIND"), sep=";", flush=True)
            os._exit(0)

sys.meta_path.insert(0, Torch())
from moebench.cli.main import main
main()
"""
CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
DECIDING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY")

pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="shares need Linux and two cores")


def prepared(local_rank: int, local_ranks: int, *with_torch: str, **variables: str) -> list[str]:
    """Return the cores of the rank, on how many its main thread may run, and two variables of OpenMP."""
    clean: Mapping[str, str] = {name: value for name, value in os.environ.items() if name not in DECIDING}
    words = [sys.executable, "-c", PREPARED, str(local_rank), str(local_ranks), *with_torch]
    done = subprocess.run(words, env={**clean, **variables}, capture_output=True, text=True, check=True)
    return done.stdout.strip().split(";")


def test_a_single_rank_is_bound_and_waits_briefly() -> None:
    assert prepared(0, 1, "with torch") == [str(CORES), "1", SPINS, "true"]


def test_ranks_have_disjoint_shares() -> None:
    first, second = (prepared(rank, 2)[0] for rank in range(2))
    assert first != second


def test_more_ranks_than_cores_share_all() -> None:
    """Threads that are bound to one core by all ranks would leave the others idle."""
    assert prepared(0, len(CORES) + 1) == [str(CORES), str(len(CORES)), SPINS, "None"]


def test_what_the_user_has_decided_stays() -> None:
    assert prepared(0, 1, OMP_WAIT_POLICY="active", OMP_PROC_BIND="false")[1:] == [str(len(CORES)), "None", "false"]


@pytest.mark.parametrize(
    ("verb", "binding"),
    [(["doctor"], "true"), (["clock"], "true"), (["calibrate", "--ranks", "2"], "None"), (["run"], "None")],
)
def test_no_verb_measures_with_threads_that_spin_without_bound(verb: list[str], binding: str, tmp_path: Path) -> None:
    """The verbs that measure in their own process bind their threads, too; `run` leaves that to its workers."""
    clean = {name: value for name, value in os.environ.items() if name not in DECIDING}
    words = [sys.executable, "-c", IMPORTING, *verb]
    done = subprocess.run(words, env=clean, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{SPINS};{binding}\n"


def test_processes_start_on_all_cores_though_openmp_has_bound_this_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OMP_PROC_BIND of a user binds the thread that imports torch to one core, which its children would inherit."""
    assert sorted(usable_cores()) == CORES
    seen: list[list[int]] = []

    def noted(*_: object, **__: object) -> None:
        seen.append(sorted(os.sched_getaffinity(0)))
        raise OSError("that is enough")

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", noted)
    monkeypatch.setattr(subprocess, "Popen", noted)
    rank = RankInfo(rank=0, ranks=1, local_rank=0, local_ranks=1)
    output = tmp_path / "output"
    starts: tuple[Callable[[], object], ...] = (
        LocalWorker(rank, FileRendezvous(tmp_path / "meet"), "cpu", []).start,
        lambda: _Compiler(all_counters),
        lambda: Side("old", "0" * 40, tmp_path).start([], tmp_path),
        partial(run, ["true"], limit_s=1, folder=tmp_path, environment={}, out=output, err=output, stop=lambda: False),
    )
    os.sched_setaffinity(0, CORES[:1])
    try:
        for start in starts:
            with suppress(OSError):
                start()
        assert os.sched_getaffinity(0) == {CORES[0]}
    finally:
        os.sched_setaffinity(0, CORES)
    assert seen == [CORES] * len(starts)
