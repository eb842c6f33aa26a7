"""`moebench calibrate`: a description that `moebench predict` reads, and what it refuses."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import quick_probe
from probes import probed
from typer.testing import CliRunner, Result

from moebench.cli.main import app
from moebench.suites.prediction.calibration import probe
from moebench.suites.prediction.calibration.links import SIZES, Exchange, patterns
from moebench.suites.prediction.machine import machine


def moebench(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, [str(argument) for argument in arguments])


def test_what_is_measured_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "take_part", quick_probe.quick)
    path = tmp_path / "here.toml"
    answer = moebench("calibrate", "--ranks", 2, "--device", "cpu", "--output", path)
    assert answer.exit_code in (0, 1)  # 1 where something disturbed so short a probe
    assert "2 ranks on nodes of 2" in answer.output
    assert f"moebench predict --machine {path}" in answer.output
    found = machine(str(path))
    assert (found.name, found.ranks_per_node) == ("here", 2)
    layer = ("--model", "Mixtral-8x7B", "--width", 256, "--dtype", "float32")
    assert moebench("predict", *layer, "--machine", path, "--ranks", 2).exit_code == 0
    beyond = moebench("predict", *layer, "--machine", path, "--ranks", 4)
    assert beyond.exit_code == 2
    assert "has no links across nodes: give at most 2 ranks, or measure with more" in beyond.output


def test_a_bad_fit_is_said_with_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that have nothing to do with the bytes."""
    places = enumerate(itertools.product(patterns(2, 2), SIZES))
    exchanges = [
        Exchange(pattern=pattern, size=size, seconds=[10.0 ** -(place * 7 % 5)] * 3)
        for place, (pattern, size) in places
    ]
    found = probed(2, 2, exchanges)
    monkeypatch.setattr(probe, "launch", lambda *_: found)
    answer = moebench("calibrate", "--ranks", 2, "--device", "cpu", "--output", tmp_path / "here.toml")
    assert answer.exit_code == 1
    assert "measure again on an idle machine" in answer.output
    assert machine(str(tmp_path / "here.toml")).name == "here"


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("--output", "here.json"), "name it here.toml"),
        (("--output", "/proc/none/here.toml"), "/proc/none is not a folder"),
        (("--ranks", "1"), "greater than or equal to 2"),
        (("--ranks", "64", "--device", "cuda"), "CUDA devices, 64 wanted"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(
    arguments: tuple[str, ...], remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = moebench("calibrate", *arguments)
    assert answer.exit_code == 2
    assert remedy in answer.output
    assert not list(tmp_path.iterdir())


def test_ranks_of_torchrun_are_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    answer = moebench("calibrate", "--ranks", 2)
    assert answer.exit_code == 2
    assert "torchrun has already started the ranks" in answer.output
