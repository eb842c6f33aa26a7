"""`moebench compare`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from records import ENVIRONMENT, TIMING, record
from typer.testing import CliRunner, Result

from moebench.cli.main import app
from moebench.results.record import Environment, Record, Status


def moebench(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def processes(
    ms: float, *, kernel: str = "loop", noise: float = 0.003, environment: Environment = ENVIRONMENT
) -> list[Record]:
    generator = np.random.default_rng(round(1000 * ms))
    return [
        record(
            kernel=kernel,
            environment=environment,
            time=f"2026-03-01T{at:03}",
            timing=TIMING.model_copy(update={"samples_ns": [1e6 * ms * float(np.exp(generator.normal(0, noise)))]}),
        )
        for at in range(8)
    ]


def written(path: Path, *records: Record) -> Path:
    path.write_text("".join(f"{one.model_dump_json()}\n" for one in records))
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return written(tmp_path / "old.jsonl", *processes(1.0), *processes(2.0, kernel="scatter"))


def test_nothing_worse_is_0_and_a_table_for_a_pull_request(old: Path, tmp_path: Path) -> None:
    new = written(tmp_path / "new.jsonl", *processes(1.001), *processes(1.8, kernel="scatter"))
    answer = moebench(old, new)
    assert answer.exit_code == 0, answer.output
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in answer.stdout.splitlines() if "|" in line]
    assert rows[0] == ["verdict", "point", "kernel", "old, ms", "new, ms", "ratio", "95 % interval", "processes", "why"]
    assert rows[2][:6] == ["faster", "test: s, 1", "scatter", "2.00", "1.80", rows[2][5]]
    assert rows[3][:3] + rows[3][7:] == ["same", "test: s, 1", "loop", "8 + 8", ""]
    assert answer.stdout.endswith("2 points: 1 faster, 1 same\n")


def test_something_slower_is_1_and_stands_first(old: Path, tmp_path: Path) -> None:
    new = written(tmp_path / "new.jsonl", *processes(1.001), *processes(2.1, kernel="scatter"))
    answer = moebench(old, new)
    assert answer.exit_code == 1
    assert answer.stdout.splitlines()[2].startswith("| slower  | test: s, 1 | scatter |")
    assert moebench(old, new, "--floor", 0.1).exit_code == 0


def test_something_broken_is_1(old: Path, tmp_path: Path) -> None:
    crash = record(status=Status.crashed, reason="SIGSEGV", timing=None)
    answer = moebench(old, written(tmp_path / "new.jsonl", crash, *processes(2.001, kernel="scatter")))
    assert answer.exit_code == 1
    assert "crashed: SIGSEGV" in answer.stdout.splitlines()[2]


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (processes(1.3, noise=0.3), "1 unclear"),
        ([], "1 missing"),
        (processes(1.001, environment=ENVIRONMENT.model_copy(update={"driver": "9"})), "1 incomparable"),
    ],
)
def test_unclear_comparisons_exit_with_2_only_with_strict(
    old: Path, tmp_path: Path, new: list[Record], said: str
) -> None:
    file = written(tmp_path / "new.jsonl", *new, *processes(2.001, kernel="scatter"))
    lenient, strict = moebench(old, file), moebench(old, file, "--strict")
    assert (lenient.exit_code, strict.exit_code) == (0, 2)
    assert f"not every point could be judged: {said}, 1 same" in strict.stderr


def test_single_runs_that_say_nothing_are_2_with_what_would(tmp_path: Path) -> None:
    old, new = (written(tmp_path / f"{ms}.jsonl", processes(ms)[0]) for ms in (1.0, 1.1))
    answer = moebench(old, new)
    *_, counts, remedy = answer.stdout.splitlines()
    assert (answer.exit_code, counts) == (2, "1 point: 1 unclear")
    assert remedy.startswith("unclear is settled by ")
    assert "moebench " in remedy
    assert "nothing could be judged: one run is one process" in answer.stderr


def refusal(answer: Result) -> str:
    """Return the one line of a refusal."""
    assert answer.exit_code == 2
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    return line


def test_files_without_a_common_point_are_refused(old: Path, tmp_path: Path) -> None:
    new = written(tmp_path / "new.jsonl", record(7.0))
    assert refusal(moebench(old, new)) == "moebench: nothing could be compared: there are no common points"


def test_other_machines_are_refused_with_the_field_that_differs(old: Path, tmp_path: Path) -> None:
    elsewhere = ENVIRONMENT.model_copy(update={"device": "another CPU"})
    new = written(tmp_path / "new.jsonl", *processes(1.0, environment=elsewhere))
    assert refusal(moebench(old, new)) == "moebench: nothing could be compared: device: a CPU / another CPU"


def test_an_empty_or_a_missing_file_is_refused(old: Path, tmp_path: Path) -> None:
    empty = written(tmp_path / "empty.jsonl")
    assert refusal(moebench(empty, old)) == f"moebench: {empty} is empty; `moebench run` makes records"
    assert "missing.jsonl: No such file" in refusal(moebench(old, tmp_path / "missing.jsonl"))


def test_a_file_of_the_future_is_refused_in_one_line(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.jsonl"
    new.write_text(old.read_text().replace('"schema_version":2', '"schema_version":3'))
    assert "schema 3, this moebench reads schemas 1 to 2; the line is left out (and 15 more)" in refusal(
        moebench(old, new)
    )


def test_a_truncated_file_is_judged_by_what_it_holds(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.jsonl"
    new.write_bytes(old.read_bytes()[:-40])
    answer = moebench(old, new)
    assert answer.exit_code == 0
    assert "new.jsonl:16: not a record" in answer.stderr
    assert "7" in answer.stdout.split("scatter", 1)[1]


def test_names_in_a_file_are_shown_and_do_nothing_else(old: Path, tmp_path: Path) -> None:
    name = "../../etc/passwd\x1b[31m\n| [red]<script>`$(id)`"
    before = sorted(tmp_path.iterdir())
    answer = moebench(old, written(tmp_path / "new.jsonl", *processes(1.001), record(kernel=name)))
    assert answer.exit_code == 0
    (row,) = (line for line in answer.stdout.splitlines() if "passwd" in line)
    assert row.count("|") == 10
    assert not set(row) & set("\x1b<>`[]$")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "new.jsonl", *before]


def test_json_has_everything(old: Path, tmp_path: Path) -> None:
    new = written(tmp_path / "new.jsonl", *processes(1.001), *processes(2.1, kernel="scatter"))
    answer = moebench(old, new, "--json")
    assert answer.exit_code == 1
    slower, same = json.loads(answer.stdout)
    assert (slower["status"], slower["key"]["kernel"], slower["processes"]) == ("slower", "scatter", [8, 8])
    assert slower["ratio"]["low"] < slower["ratio"]["value"] < slower["ratio"]["high"]
    assert same["status"] == "same"


def test_a_comparison_changes_no_file(old: Path, tmp_path: Path) -> None:
    new = written(tmp_path / "new.jsonl", *processes(3.0))
    before = {path: path.read_bytes() for path in (old, new)}
    moebench(old, new)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
