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


def test_what_is_kept_is_shown_without_files(files: list[Path], tmp_path: Path) -> None:
    archive = ("--archive", tmp_path / "kept")
    first = moebench(files[0], "--keep", *archive)
    assert first.stderr == f"moebench: 16 of 16 records added to {tmp_path / 'kept'}\n"
    both = moebench(*files, "--keep", *archive)
    assert "moebench: 16 of 32 records added" in both.stderr
    assert both.stdout == moebench(*archive).stdout == moebench(*files).stdout


def test_what_has_no_place_in_a_history_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    changed = measured(2, 1.0).model_copy(update={"commit": "f" * 40 + "-dirty"})
    path.write_text(f"{measured(1, 1.0).model_dump_json()}\n{changed.model_dump_json()}\n")
    answer = moebench(path, "--keep", "--archive", tmp_path / "kept")
    assert answer.stderr == f"moebench: 1 of 2 records added to {tmp_path / 'kept'}\n"


def test_nothing_to_keep_and_nothing_kept_are_refused(tmp_path: Path) -> None:
    answer = moebench("--keep", "--archive", tmp_path)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "give the files to keep" in answer.stderr
    answer = moebench("--archive", tmp_path / "kept")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert f"nothing is kept in {tmp_path / 'kept'}: give files" in answer.stderr
    assert not (tmp_path / "kept").exists()


def test_a_kernel_that_no_record_is_of_is_named_with_those_that_are(files: list[Path]) -> None:
    answer = moebench(*files, "-k", "nosuch")
    assert (answer.exit_code, answer.stderr) == (2, "moebench: no record is of nosuch: there are loop, scatter\n")


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
