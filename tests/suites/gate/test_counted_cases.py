"""Every counter is as accepted, on this machine as on any; a case that fails or is refused costs no other counter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import faulty_kernels
import pytest
from quick_start import python_m

from moebench.autotune.search.space import Space
from moebench.kernels.catalog import KERNELS
from moebench.kernels.compiler.survey import META, compiled_kernels
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.problem import Problem
from moebench.results.counters import CountersError, read
from moebench.suites.gate import counted_cases
from moebench.suites.gate.counted_cases import CPU, PROBLEM, PROBLEMS, count, of_space, small

ROOT = Path(__file__).parents[3]
ACCEPTED = ROOT / "results" / "recorded" / "counters"
COUNTERS = [str(Path(sys.executable).with_name("moebench")), "counters"]

try:
    read(ACCEPTED, "calls")
except CountersError as error:
    OTHER_VERSIONS = str(error)
else:
    OTHER_VERSIONS = ""
comparable = pytest.mark.skipif(bool(OTHER_VERSIONS), reason=OTHER_VERSIONS)


@comparable
def test_every_counter_is_as_accepted() -> None:
    """`moebench counters --accept` accepts a change that is meant, also one for the better."""
    answer = python_m("moebench.cli.main", "counters", cwd=ROOT)
    assert answer.returncode == 0, answer.stdout
    assert answer.stdout.endswith(" counters: as accepted\n"), answer.stdout


@comparable
@pytest.mark.parametrize(
    "environment",
    [
        {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"},
        {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "2", "PYTHONHASHSEED": "1"},
    ],
    ids=["an older processor", "other threads"],
)
@pytest.mark.slow
def test_another_machine_has_the_same_counters(environment: dict[str, str]) -> None:
    answer = subprocess.run(
        COUNTERS, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout


def test_the_problems_are_of_models_and_run_small() -> None:
    problems = [problem for of_model in PROBLEMS.values() for problem in of_model]
    assert {problem.mode for problem in problems} == {"forward", "train"}
    assert any(problem.capacity for problem in problems)
    assert any(problem.ranks > 1 for problem in problems)
    for problem in problems:
        less = small(problem)
        assert (less.E, less.K, less.F * problem.D) == (problem.E, problem.K, problem.F * less.D)
        assert less.input_bytes < 32 * 2**20


def test_each_kernel_is_counted_where_it_would_run() -> None:
    """Triton kernels are counted for every GPU at full scale; others at full scale by cost, and called on the CPU."""
    triton = "triton_scatter"
    assert triton in compiled_kernels()
    counted = count(["padded", triton])
    assert counted.families.keys() == {PROBLEM, "padded", "scatter"}
    assert not counted.broken
    padded = counted.families["padded"]
    assert {"workspace_bytes", "padding"} <= padded["padded, Mixtral-8x7B T=8192 train bfloat16"].keys()
    assert padded["padded, Mixtral-8x7B D=128 T=256 train bfloat16"].keys() == {
        "peak_bytes",
        "saved_bytes",
        "operators",
        "host_waits",
    }
    for target in HARDWARE:
        found = counted.families["scatter"][f"{triton} on {target}, Qwen3-30B-A3B T=8192 train bfloat16"]
        assert found["host_waits"] == 0
        assert found["launches"] == 8
        assert int(found["valid_configs"]) <= int(found["configs"])


def test_ranks_sit_on_two_nodes_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    found = count(["alltoall"]).families["expert_parallel"]["alltoall, Qwen3-30B-A3B T=8192 train bfloat16 ranks=8"]
    assert found["across_bytes"] == pytest.approx(int(found["node_bytes"]) * 4 / 3, rel=0.02)
    assert os.environ["LOCAL_WORLD_SIZE"] == "8"
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    count([])
    assert "LOCAL_WORLD_SIZE" not in os.environ


def test_a_refusal_is_reported_with_its_reason() -> None:
    counted = count(["dense"])
    at = "dense, Qwen3-30B-A3B T=8192 train bfloat16"
    assert counted.refused[at] == "is a forward rate only, the problem has mode = train"
    assert at not in counted.families["reference"]


def test_what_fails_is_broken_and_costs_no_other_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted_cases, "PROBLEMS", {"Mixtral-8x7B": PROBLEMS["Mixtral-8x7B"][-1:]})
    counted = count([faulty_kernels.Name("Raises"), "loop"])
    assert counted.broken == {"Raises, Mixtral-8x7B D=128 T=16 forward bfloat16": "RuntimeError: no such luck"}
    assert "Raises, Mixtral-8x7B T=16 forward bfloat16" in counted.families["faulty"]
    assert len(counted.families["baseline"]) == 2


def test_a_space_is_counted_with_and_without_what_cannot_be_built() -> None:
    problem = Problem(T=256, D=128, F=64, E=8, K=2)
    with assuming(HARDWARE["sm_80"]):
        space = Space.of(KERNELS.load("triton_scatter"), problem, META)
    assert of_space(space) == {"configs": space.declared, "valid_configs": len(space)}
    assert space.declared > len(space) > 1
    assert of_space(Space.of(KERNELS.load("loop"), problem, CPU)) == {}
