"""`moebench gate`: its output, the files that it writes, and its exit codes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from simulated_checkouts import Asked, Imagined, Times, always
from typer.testing import CliRunner, Result

from moebench.cli.check import gate
from moebench.cli.main import app
from moebench.results.record.store import load
from moebench.suites.gate.checkouts import GateError
from moebench.suites.gate.paired_runs import SAMPLES


def moebench(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def imagine(monkeypatch: pytest.MonkeyPatch, old: Times, new: Times) -> Asked:
    """Make the gate measure these sides instead of revisions."""
    asked: Asked = []
    sides = (Imagined("A", old, asked), Imagined("B", new, []))
    monkeypatch.setattr(gate, "_sides", lambda *_: sides)
    return asked


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_equal_sides_are_the_same_and_leave_their_records(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = imagine(monkeypatch, always(loop=1), always(loop=1))
    answer = moebench("gate", "--self", "-o", "out", "-m", "Mixtral-8x7B", "--device", "cpu")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.endswith("\n1 point: 1 same\n")
    assert "8 processes a side" in answer.stderr
    options = ("--model", "Mixtral-8x7B", "--device", "cpu", "--configs", "default", "--samples", str(SAMPLES))
    assert asked == 8 * [("gate", *options)]
    again = moebench("compare", here / "out" / "old.jsonl", here / "out" / "new.jsonl")
    assert again.stdout == answer.stdout


def test_a_slower_side_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    imagine(monkeypatch, always(loop=1, scatter=2), always(loop=1, scatter=2.1))
    answer = moebench("gate", "smoke", "--base", "main", "-k", "scatter")
    assert answer.exit_code == 1
    assert answer.stdout.endswith("\n1 point: 1 slower\n")
    assert list(Path("runs").glob("gate-*/new.jsonl"))


def test_records_are_never_written_over(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imagine(monkeypatch, always(loop=1), always(loop=1))
    (here / "out").mkdir()
    answer = moebench("gate", "--self", "-o", "out")
    assert answer.exit_code == 2
    assert answer.stderr == "moebench: out is there already: give another --output\n"
    assert not list((here / "out").iterdir())


@pytest.mark.parametrize("options", [(), ("--self", "--base", "main")])
def test_one_base_is_needed(options: tuple[str, ...]) -> None:
    answer = moebench("gate", *options)
    assert answer.exit_code == 2
    assert "--base REV" in answer.stderr


def test_outside_a_checkout_it_is_refused(here: Path) -> None:
    answer = moebench("gate", "--self")
    assert answer.exit_code == 2
    assert f"moebench: {here} is in no checkout of moebench (git rev-parse: fatal: not a git" in answer.stderr
    assert not list(here.iterdir())


def test_a_base_that_is_not_there_is_named_with_the_remedy(here: Path) -> None:
    subprocess.run(["git", "init", "-q", here], check=True)
    (here / "pyproject.toml").write_text('[project]\nname = "moebench"\n')
    answer = moebench("gate", "--base", "nosuchrev")
    assert answer.exit_code == 2
    assert "--base nosuchrev cannot be read" in answer.stderr
    assert "give a commit, tag or branch of this checkout" in answer.stderr


def test_a_side_that_cannot_be_measured_is_2_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_number: int) -> dict[str, float]:
        raise GateError("the working tree could not be measured: no disk")

    imagine(monkeypatch, always(loop=1), breaks)
    answer = moebench("gate", "--self")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "moebench: the working tree could not be measured: no disk" in answer.stderr


def test_measuring_nothing_in_common_is_2(monkeypatch: pytest.MonkeyPatch) -> None:
    imagine(monkeypatch, always(loop=1), always(scatter=1))
    answer = moebench("gate", "--base", "main")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "nothing could be compared: there are no common points" in answer.stderr


def test_ctrl_c_names_what_judges_the_rest(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(number: int) -> dict[str, float]:
        if number > 4:
            raise KeyboardInterrupt
        return {"loop": 1}

    imagine(monkeypatch, always(loop=1), interrupted)
    answer = moebench("gate", "--self", "-o", "out")
    assert answer.exit_code == 2
    assert "`moebench compare out/old.jsonl out/new.jsonl` judges what there is" in answer.stderr
    assert load(here / "out" / "old.jsonl").records
