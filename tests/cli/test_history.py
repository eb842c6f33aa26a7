"""`moebench history`: medians over commits, and the commits between which they changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from records import TIMING, record
from typer.testing import CliRunner, Result

from moebench.cli.main import app
from moebench.results.record import Record


def moebench(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["history", *map(str, arguments)])


def measured(number: int, ms: float, kernel: str = "loop") -> Record:
    return record(
        kernel=kernel,
        commit=f"{number:010x}" + "f" * 30,
        time=f"2026-03-{number + 1:02}T10:00:00+00:00",
        timing=TIMING.model_copy(update={"samples_ns": [1e6 * ms]}),
    )


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files of one history, whose second half is slower for one of two kernels."""
    wiggle = (1.0, 1.01, 0.99, 1.005, 0.995)
    found = []
    for half, ms in enumerate((1.0, 1.1)):
        records = [measured(n, ms * wiggle[n % 5]) for n in range(8 * half, 8 * half + 8)]
        records += [measured(n, 2 * wiggle[n % 5], "scatter") for n in range(8 * half, 8 * half + 8)]
        found.append(tmp_path / f"{half}.jsonl")
        found[-1].write_text("".join(f"{one.model_dump_json()}\n" for one in records))
    return found


def test_a_table_for_every_point_and_a_line_for_every_change(files: list[Path]) -> None:
    answer = moebench(*files)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("## a CPU, 4 cores, 2 threads, Linux 6.1, Python 3.11.9, torch 2.8.0\n")
    assert (
        "### loop at test: s, 1\n\n| commit     |    measured, UTC | processes | median, ms | × before |"
        in answer.stdout
    )
    assert "| 0000000008 | 2026-03-09 10:00 |         1 |       1.11 |    1.1" in answer.stdout
    assert answer.stdout.splitlines()[-2].startswith("- loop at test: s, 1: 1.1")
    assert "0000000007..0000000008" in answer.stdout.splitlines()[-2]
    assert answer.stdout.splitlines()[-1] == "2 points, 1 change"


def test_one_kernel_alone(files: list[Path]) -> None:
    answer = moebench(*files, "--kernel", "scatter")
    assert answer.stdout.splitlines()[-1] == "1 point, 0 changes"


def test_json_has_whole_commits(files: list[Path]) -> None:
    (loop, scatter) = json.loads(moebench(*files, "--json").stdout)
    assert loop["changes"][0]["first_after"] == "0000000008" + "f" * 30
    assert loop["environment"]["device"] == "a CPU"
    assert len(scatter["measured"]) == 16


def test_names_are_shown_and_do_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(measured(1, 1.0, "\x1b[31m\n# <b>[x](y)").model_dump_json() + "\n")
    answer = moebench(path)
    assert answer.exit_code == 0
    (heading,) = (line for line in answer.stdout.splitlines() if line.startswith("###"))
    assert not set(heading) & set("\x1b<>[]")


def test_records_without_a_commit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(record(commit="unknown").model_dump_json() + "\n")
    answer = moebench(path)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "no record passed at a known commit" in answer.stderr
