"""The scripts of the studies print their tables, and refuse files that they cannot use."""

from __future__ import annotations

from pathlib import Path

import gate_study
import pytest
import tuning_study
from noise import SHAPES
from records import record

from moebench.autotune.search.recorded_sweep import recorded_sweeps
from moebench.results.record.store import Store, load_all

RECORDED = Path(__file__).parents[2] / "results" / "recorded"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Write a file of records that no study can use."""
    with Store(tmp_path / "other.jsonl") as store:
        store.append(record())
    return store.path


def test_the_tuning_study_has_a_row_for_every_strategy_with_and_without_predictions() -> None:
    sweeps = recorded_sweeps(load_all([RECORDED / "cpu-sweeps-others.jsonl"]).records)
    smallest = min(sweeps, key=lambda sweep: len(sweep.space))
    printed = "\n".join(tuning_study.on_sweep(smallest))
    assert "48 configurations; the best is 1.110 times as fast as the default" in printed
    assert [printed.count(f"| {name} ") for name in ("model", "random", "exhaustive")] == [2, 2, 1]


def test_the_tuning_study_names_files_without_a_sweep(other: Path) -> None:
    with pytest.raises(SystemExit, match=r"other\.jsonl: no sweep in it; `moebench tune --strategy exhaustive`"):
        tuning_study.main([str(other)])


def test_the_gate_study_has_a_table_for_every_question_and_one_of_the_gate() -> None:
    tables = list(gate_study.tables({"2 %": SHAPES["2 %"]}, comparisons=2))
    assert len(tables) == len(gate_study.QUESTIONS) + 1
    assert all("| 2 % " in table for table in tables)


def test_the_gate_study_names_files_with_too_few_processes(other: Path) -> None:
    with pytest.raises(SystemExit, match=r"other\.jsonl: 1 processes of a point are recorded, 8 are needed"):
        gate_study.main([str(other)])
