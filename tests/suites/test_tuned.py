"""Tuned configurations of suites: which competitors get one, and what is reported for the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_tasks import task
from tables import CONFIGS, PROBLEM, table

from moebench.suites.tuned import as_tuned


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a tuned folder with a table of ``scatter`` for 64 to 256 tokens."""
    monkeypatch.setenv("MOEBENCH_TUNED", str(tmp_path))
    (tmp_path / "table.json").write_text(table().text())


@pytest.mark.usefixtures("home")
def test_only_what_is_tuned_gets_a_configuration() -> None:
    (done,), notes = as_tuned([task("scatter", "loop", problem=PROBLEM)], "cpu")
    assert [who.config for who in done.competitors] == [CONFIGS[1], None]
    assert notes == ["scatter runs as tuned at 1 point"]


@pytest.mark.usefixtures("home")
def test_a_layer_with_a_block_runs_as_its_experts_are_tuned() -> None:
    around = PROBLEM.replace(D=2 * PROBLEM.D, block=f"latent:width={PROBLEM.D}")
    (done,), _ = as_tuned([task("scatter", problem=around)], "cpu")
    assert done.competitors[0].config == CONFIGS[1]


@pytest.mark.usefixtures("home")
def test_points_outside_the_table_run_by_default_and_are_counted_with_the_reason() -> None:
    outside = [task("scatter", problem=PROBLEM.replace(T=T)) for T in (1024, 1024, 64)]
    done, notes = as_tuned(outside, "cpu")
    assert [one.competitors[0].config for one in done] == [None, None, CONFIGS[1]]
    assert notes[0] == "scatter runs as tuned at 1 point"
    assert notes[1].startswith("scatter runs by default at 2 points: T = 1024")


@pytest.mark.usefixtures("home")
def test_a_problem_that_the_kernel_refuses_is_left_to_the_worker() -> None:
    (done,), notes = as_tuned([task("scatter", problem=PROBLEM.replace(capacity_factor=1.0))], "cpu")
    assert done.competitors[0].config is None
    assert notes == []


def test_without_tables_nothing_changes_and_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOEBENCH_TUNED", str(tmp_path))
    tasks = [task("scatter", "loop")]
    assert as_tuned(tasks, "cpu") == (tasks, [])
    assert as_tuned(tasks, "cuda") == (tasks, [])
