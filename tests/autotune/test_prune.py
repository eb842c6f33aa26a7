"""Configurations dropped by what their compiled code says, on a machine without the GPU they are for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moebench.autotune import prune
from moebench.autotune.prune import compiled_faults, fault_of
from moebench.kernels.compiled.machine_code import Figures
from moebench.kernels.compiled.survey import Case, Outcome
from moebench.kernels.gpu.tiles import Tiles
from moebench.kernels.problem import Problem

pytest.importorskip("triton")

PROBLEM = Problem(T=256, D=256, F=256, E=4, K=2, dtype="bfloat16")
CASE = Case(kernel="triton_scatter", model="", problem=PROBLEM, config={}, target="sm_80")


def outcome(error: str = "", **changes: object) -> Outcome:
    fields = {"warps": 4, "occupancy": 2, "registers": 128, "shared_bytes": 1 << 16, "code_bytes": 999} | changes
    return Outcome(case=CASE, figures={"up": Figures(**fields)}, error=error)  # type: ignore[arg-type]


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
    ],
)
def test_what_does_not_is_dropped_with_the_reason(found: Outcome, reason: str) -> None:
    assert str(fault_of(found)).startswith(reason)


def test_where_nothing_compiles_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "unable", lambda: "TRITON_INTERPRET is set: unset it")
    with pytest.raises(RuntimeError, match="unset it"):
        list(compiled_faults("triton_scatter", PROBLEM, [{}], "sm_80"))


COMPILED = """
import json, sys
from moebench.autotune.prune import compiled_faults
from moebench.kernels.problem import Problem
if __name__ == "__main__":
    problem, configs = json.loads(sys.argv[1])
    print(json.dumps(list(compiled_faults("triton_scatter", Problem(**problem), configs, "sm_80"))))
"""


@pytest.mark.slow
@pytest.mark.xdist_group("compiled")
def test_sums_too_many_for_the_registers_are_found_in_real_code(tmp_path: Path) -> None:
    fitting = Tiles(block_m=16, block_n=64, block_k=64, stages=2)
    spilling = Tiles(block_m=128, block_n=256, block_k=64, warps=4, stages=2)
    configs = [{**tiles.config(), "scatter": False} for tiles in (fitting, spilling)]
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
    (first, none), (second, reason) = json.loads(answer.stdout)
    assert (first, second) == (0, 1)
    assert none is None
    assert "spills" in reason
