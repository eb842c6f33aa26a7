"""A compiler that dies or hangs costs one case only, and launches find the compiled code in the cache."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import faulty_compiler
import pretended_gpu
import pytest

from moebench.kernels.compiler import compilers
from moebench.kernels.compiler.compilers import LAUNCHES, Compilers
from moebench.kernels.compiler.survey import CompileCase, CompileOutcome
from moebench.kernels.problem.models import model

PROBLEM = model("Mixtral-8x7B").problem(T=1)


def compiled(compilers: Compilers, *kernels: str) -> list[CompileOutcome]:
    cases = [CompileCase(kernel=name, model="", problem=PROBLEM, config={}, target="sm_90") for name in kernels]
    outcomes = list(compilers.compile(cases))
    assert [outcome.case for outcome in outcomes] == cases
    return outcomes


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let compilers start at once, and fail as they are told."""
    monkeypatch.setattr(compilers, "_work", faulty_compiler.work)


@pytest.mark.usefixtures("quick_start", "faulty")
def test_a_compiler_that_dies_or_hangs_costs_one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    with Compilers(2) as two:
        outcomes = compiled(two, "fine 1", "fatal", "fine 2", "fine 3")
        assert [outcome.error for outcome in outcomes] == ["", "the compiler was killed by SIGSEGV", "", ""]
        compiled(two, "fine", "fine")  # both have started
        monkeypatch.setattr(compilers, "HANG_S", 0.5)
        outcomes = compiled(two, "endless", "fine")
        assert [outcome.error for outcome in outcomes] == ["the compiler took longer than 0.5 s", ""]


@pytest.mark.usefixtures("quick_start", "faulty")
def test_few_cases_are_shared_by_all_compilers_launch_by_launch() -> None:
    with Compilers(3) as three:
        one, dead = compiled(three, "fine", "fatal")
        assert list(one.launches) == [f"launch {number}" for number in range(LAUNCHES)]
        assert "SIGSEGV" in dead.error
        many = compiled(three, *["fine"] * 3)
    assert all(list(outcome.launches) == ["launch 0"] for outcome in many)


@pytest.mark.usefixtures("quick_start", "faulty")
def test_who_stops_asking_leaves_no_process_behind() -> None:
    with Compilers(2) as two:
        cases = [
            CompileCase(kernel=name, model="", problem=PROBLEM, config={}, target="sm_90")
            for name in ("fine", "endless")
        ]
        outcomes = two.compile(cases)
        assert next(outcomes).error == ""
        outcomes.close()
        compiled(two, "fine", "fine")
    assert not multiprocessing.active_children()


@pytest.mark.exhaustive
@pytest.mark.xdist_group("compiled")
def test_a_launch_on_the_gpu_finds_all_of_its_code_in_the_cache(tmp_path: Path) -> None:
    """Launched by Triton itself on tensors with memory, forward and backward, for every kind of layer."""
    answer = subprocess.run(
        [sys.executable, pretended_gpu.__file__],
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        | {"TRITON_CACHE_DIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    printed = json.loads(answer.stdout)
    assert not any(printed["errors"])
    assert {name for name, _ in printed["launched"]} >= {"up", "down", "sum_rows", "copy_rows", "down_backward"}
    assert [name for name, in_cache in printed["launched"] if not in_cache] == []
