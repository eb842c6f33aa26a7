"""Figures on file: written one line a launch, read back as they were, and what counts as worse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from moebench.kernels.compiler.machine_code import Figures
from moebench.kernels.compiler.snapshot import read, worse, write
from moebench.kernels.compiler.survey import CompileCase, Outcome
from moebench.kernels.problem.models import model

BEFORE = Figures(
    warps=8,
    occupancy=2,
    registers=128,
    shared_bytes=65536,
    code_bytes=4096,
    tensor_core={"HGMMA": 4},
    bulk_copies={"UTMALDG": 2, "LDGSTS": 1},
)
CASE = CompileCase(
    kernel="triton_scatter",
    model="Mixtral-8x7B",
    problem=model("Mixtral-8x7B").problem(T=16),
    config={"up": "16x128x128w4s4"},
    target="sm_90",
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"registers": 136}, "registers 128 -> 136"),
        ({"spill_bytes": 8}, "spill_bytes 0 -> 8"),
        ({"shared_bytes": 65552}, "shared_bytes 65536 -> 65552"),
        ({"occupancy": 1}, "occupancy 2 -> 1"),
        ({"spills": {"STL": 3}}, "instructions that spill 0 -> 3"),
        ({"tensor_core": {"HMMA": 64}}, "no HGMMA any more"),
        ({"bulk_copies": {"LDGSTS": 9}}, "no UTMALDG any more"),
    ],
)
def test_what_gets_worse_is_said_and_its_reverse_is_not(change: dict[str, object], said: str) -> None:
    after = dataclasses.replace(BEFORE, **change)  # type: ignore[arg-type]
    assert list(worse(BEFORE, after)) == [said]
    if "tensor_core" not in change:
        assert list(worse(after, BEFORE)) == []


def test_equal_figures_have_no_complaint() -> None:
    assert list(worse(BEFORE, dataclasses.replace(BEFORE))) == []


def test_figures_come_back_from_a_file_of_one_line_a_launch(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    nothing = Figures(warps=4, occupancy=0, registers=16, shared_bytes=0, code_bytes=64)
    figures = {"up": BEFORE, "down": dataclasses.replace(BEFORE, spill_bytes=16, spills={"STL": 4}), "sum": nothing}
    write([Outcome(case=CASE, figures=figures)], path)
    (accepted,) = read(path).cases.values()
    assert accepted.figures == figures
    assert accepted.config == CASE.config
    assert sum("registers" in line for line in path.read_text().splitlines()) == len(figures)


def test_complaints_name_case_launch_and_changed_configuration(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write([Outcome(case=CASE, figures={"up": BEFORE, "down": BEFORE})], path)
    snapshot = read(path)
    same = Outcome(case=CASE, figures={"up": BEFORE, "down": BEFORE})
    assert list(snapshot.complaints(same)) == []
    larger = dataclasses.replace(CASE, config={"up": "128x256x64w8s4"})
    found = Outcome(case=larger, figures={"up": dataclasses.replace(BEFORE, registers=255), "fused": BEFORE})
    case = "sm_90 triton_scatter: Mixtral-8x7B T=16 forward float32"
    assert list(snapshot.complaints(found)) == [
        f"{case}: down: is in the snapshot only",
        f"{case}: up: registers 128 -> 255",
        f"{case}: fused: is not in the snapshot",
        f"{case}: the default configuration is another: up 16x128x128w4s4 -> 128x256x64w8s4",
    ]


def test_what_does_not_compile_or_is_new_is_a_complaint(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write([Outcome(case=CASE, figures={"up": BEFORE})], path)
    snapshot = read(path)
    (broken,) = snapshot.complaints(Outcome(case=CASE, figures={}, error="up: out of registers"))
    assert "does not compile: up: out of registers" in broken
    (new,) = snapshot.complaints(Outcome(case=dataclasses.replace(CASE, kernel="new"), figures={"up": BEFORE}))
    assert "new: Mixtral-8x7B T=16 forward float32: is not in the snapshot" in new
