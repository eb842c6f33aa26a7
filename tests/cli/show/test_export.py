"""`moebench export`: records that pytest-benchmark reads, or the reason why there are none to read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from records import ENVIRONMENT, record
from typer.testing import CliRunner, Result

from moebench.cli.main import app
from moebench.results.record import Record, Status

RECORDED = Path(__file__).parents[3] / "results" / "recorded" / "cpu-main.jsonl"


def export(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", "--format", "pytest-benchmark", *map(str, arguments)])


def write(path: Path, *records: Record, after: str = "") -> Path:
    path.write_text("".join(f"{made.model_dump_json()}\n" for made in records) + after)
    return path


def test_recorded_runs_are_compared_by_pytest_benchmark(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    answer = export(RECORDED, "-o", output)
    assert answer.exit_code == 0
    held = json.loads(output.read_text())["benchmarks"]
    assert answer.output == f"pytest-benchmark: {output}, {len(RECORDED.read_text().splitlines())} records\n"
    compare = subprocess.run(
        [Path(sys.executable).with_name("pytest-benchmark"), "compare", output, "--columns", "median,rounds"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert compare.returncode == 0
    assert compare.stderr == ""
    assert compare.stdout.count("test_dispatch[") == len(held)
    assert "test_dispatch[smoke-dropless, Mixtral-8x7B, float32 forward-scatter]" in compare.stdout


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    failed = record(2, status=Status.wrong, timing=None, reason="off")
    path = write(tmp_path / "some.jsonl", record(1), failed, after='{"schema_version": 9}\n{"cut')
    answer = export(path, "-o", tmp_path / "out.json")
    assert answer.exit_code == 0
    assert "2 records, of which 1 did not pass" in answer.output
    assert f"{path}:3: schema 9, this moebench reads" in answer.output
    assert f"{path}:4: not a record" in answer.output


@pytest.mark.parametrize("case", ["missing", "empty", "mixed", "unwritable"])
def test_what_cannot_be_done_is_one_line_with_exit_code_2(case: str, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    other = ENVIRONMENT.model_copy(update={"torch": "1.0"})
    said = {
        "missing": "give a file that `moebench run` wrote",
        "empty": "none of the records has passed",
        "mixed": "of several environments (torch: 2.8.0 / 1.0)",
        "unwritable": "give an --output that can be written",
    }
    path = tmp_path / "some.jsonl"
    if case == "empty":
        write(path)
    if case == "mixed":
        write(path, record(1), record(2, environment=other))
    if case == "unwritable":
        write(path, record(1))
        (tmp_path / "file").write_text("")
        output = tmp_path / "file" / "out.json"
    answer = export(path, "-o", output)
    assert answer.exit_code == 2
    assert said[case] in answer.output
    assert answer.output.count("\n") == 1
    assert not output.exists()


def test_without_pytest_benchmark_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pytest_benchmark", None)
    answer = export(write(tmp_path / "some.jsonl", record(1)), "-o", tmp_path / "out.json")
    assert answer.exit_code == 2
    assert "pip install 'moebench[benchmark]'" in answer.output


def test_the_named_format_is_written(tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    path = write(tmp_path / "some.jsonl", record(1))
    answer = CliRunner().invoke(app, ["export", "--format", "csv", str(path), "-o", str(output)])
    assert answer.exit_code == 0
    assert output.read_text().startswith("suite,")


def test_an_unknown_format_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    path = write(tmp_path / "some.jsonl", record(1))
    answer = CliRunner().invoke(app, ["export", "--format", "pytest-bench", str(path), "-o", str(tmp_path / "out")])
    assert answer.exit_code == 2
    assert answer.output == "moebench: no format is named 'pytest_bench': did you mean pytest_benchmark?\n"
