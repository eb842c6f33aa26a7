"""Options that name where to measure: `moebench run` uses the executors that `moebench tune` uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moebench.cli.main import app
from moebench.results.record.store import load


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two slots need a core each")
def test_a_run_shares_its_points_among_slots(tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    arguments = ["run", "tokens", "--shape", "D=32,F=48,E=4,K=2", "--tokens", "16,32", "--dtype", "float32"]
    arguments += ["--kernel", "scatter", "--samples", "2", "--device", "cpu", "--slots", "2"]
    answer = CliRunner().invoke(app, [*arguments, "--output", str(records)])
    assert answer.exit_code == 0, answer.output
    made = load(records).records
    assert {record.problem["T"] for record in made} == {16, 32}
    assert {record.environment.cores for record in made} == {len(os.sched_getaffinity(0)) // 2}


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["--address", "10.0.0.1:6379"], "--address 10.0.0.1:6379 names a Ray cluster: add --executor ray"),
        (["--slots", "10000"], "10000 slots need a core each"),
        (["--interleave-with", ".", "--slots", "2"], "two runs of one slot each: leave out --executor, --address and"),
        (["--interleave-with", ".", "--executor", "ray"], "two runs of one slot each: leave out --executor"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_measured(
    words: list[str], remedy: str, tmp_path: Path
) -> None:
    output = tmp_path / "r.jsonl"
    answer = CliRunner().invoke(app, ["run", "smoke", "--device", "cpu", "--output", str(output), *words])
    assert answer.exit_code == 2
    assert remedy in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not output.exists() or not output.read_text()
