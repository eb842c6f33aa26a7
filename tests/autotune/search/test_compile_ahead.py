"""Candidates are compiled for a GPU that the machine does not have, and faults are found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from moebench.autotune.search import candidates
from moebench.autotune.search.candidates import Candidates
from moebench.autotune.search.compile_ahead import Ahead, fault_of, none_known
from moebench.kernels.catalog import KERNELS
from moebench.kernels.compiler.machine_code import CodeCounters
from moebench.kernels.compiler.survey import CompileCase, CompileOutcome
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.problem import Problem
from moebench.kernels.triton.tiles import Tile, Tiles

pytest.importorskip("triton")

PROBLEM = Problem(T=256, D=256, F=256, E=4, K=2, dtype="bfloat16")
CASE = CompileCase(kernel="triton_scatter", model="", problem=PROBLEM, config={}, target="sm_80")
FIGURES = {"warps": 4, "occupancy": 2, "registers": 128, "shared_bytes": 1 << 16, "code_bytes": 999}


def outcome(error: str = "", case: CompileCase = CASE, **changes: object) -> CompileOutcome:
    return CompileOutcome(case=case, launches={"up": CodeCounters(**FIGURES | changes)}, error=error)  # type: ignore[arg-type]


def test_what_compiles_and_fits_stays() -> None:
    assert fault_of(outcome()) is None


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (outcome("up: out of resources"), "does not compile: up: out of resources"),
        (outcome(shared_bytes=200_000), "up needs 200000 bytes of shared memory of 166912"),
        (outcome(spill_bytes=8), "up spills 8 bytes a thread"),
        (outcome(spills={"STL": 3}), "up spills"),
        (outcome(occupancy=0, registers=255, warps=16), "up has 255 registers and 16 warps"),
        (
            outcome(case=replace(CASE, hardware=replace(HARDWARE["sm_80"], shared_bytes=50_000))),
            "up needs 65536 bytes of shared memory of 50000",
        ),
    ],
)
def test_what_does_not_is_at_fault_with_the_reason(found: CompileOutcome, reason: str) -> None:
    assert str(fault_of(found)).startswith(reason)


class Spilling:
    """Compilers whose code spills where ``spills`` is set; ``asked`` has the cases that they were given."""

    def __init__(self) -> None:
        self.asked: list[CompileCase] = []

    def compile(self, work: Sequence[CompileCase]) -> Iterator[CompileOutcome]:
        for case in work:
            self.asked.append(case)
            yield outcome(case=case, spill_bytes=8 * int(case.config["spills"]))


def test_each_is_compiled_once_for_the_device_at_hand_and_told_as_soon_as_it_is_known() -> None:
    device, compilers = replace(HARDWARE["sm_90"], processors=114), Spilling()
    faults: Any = Ahead("triton_scatter", "sm_90", device, compilers)  # type: ignore[arg-type]
    configs = [{"spills": False}, {"spills": True}, {"spills": False}]
    told = faults(PROBLEM, configs)
    assert next(told) is None
    assert len(compilers.asked) == 1
    assert list(told) == ["up spills 8 bytes a thread", None]
    assert list(faults(PROBLEM, configs[:2])) == [None, "up spills 8 bytes a thread"]
    assert [case.config for case in compilers.asked] == configs[:2]
    assert list(faults(PROBLEM.replace(T=512), configs[:1])) == [None]
    assert {(case.target, case.hardware) for case in compilers.asked} == {("sm_90", device)}
    assert len(compilers.asked) == 3


@pytest.mark.parametrize(
    ("kernel", "target", "why"),
    [("scatter", None, "give a --target"), ("scatter", "sm_90", "it is compiled where it is measured")],
)
def test_what_is_not_compiled_ahead_is_said_and_has_no_faults(kernel: str, target: str | None, why: str) -> None:
    found = Candidates(kernel=KERNELS.load(kernel), device=torch.device("cpu"), target=target)
    assert why in str(found.uncompiled)
    with found.compiling() as faults:
        assert faults is none_known
        assert list(faults(PROBLEM, [{}, {}])) == [None, None]


def test_where_nothing_compiles_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "unable", lambda: "TRITON_INTERPRET is set: unset it")
    found = Candidates(kernel=KERNELS.load("triton_scatter"), device=torch.device("meta"), target="sm_90")
    assert "unset it" in str(found.uncompiled)


COMPILED = """
import json, sys
import torch
from moebench.autotune.search.candidates import Candidates
from moebench.kernels.catalog import KERNELS
from moebench.kernels.problem import Problem
if __name__ == "__main__":
    problem, configs = json.loads(sys.argv[1])
    found = Candidates(kernel=KERNELS.load("triton_scatter"), device=torch.device("meta"), target="sm_80")
    with found.compiling() as faults:
        print(json.dumps(list(faults(Problem(**problem), configs))))
"""


@pytest.mark.slow
@pytest.mark.xdist_group("compiled")
def test_sums_too_many_for_the_registers_are_found_in_real_code(tmp_path: Path) -> None:
    fitting = Tiles.same(Tile.parse("16x64x64w4s2"))
    spilling = Tiles.same(Tile.parse("128x256x64w4s2"))
    configs = [{**tiles.config(), "gathered": True, "scatter": False} for tiles in (fitting, spilling)]
    fields = {"T": 256, "D": 256, "F": 256, "E": 4, "K": 2, "dtype": "bfloat16"}
    script = tmp_path / "compiled.py"
    script.write_text(COMPILED)
    answer = subprocess.run(
        [sys.executable, script, json.dumps([fields, configs])],
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    none, reason = json.loads(answer.stdout)
    assert none is None
    assert "spills" in reason
