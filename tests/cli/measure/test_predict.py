"""`moebench predict`: what it answers, how fast, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from moebench.cli.main import app
from moebench.kernels.problem.traces.trace_writer import write_ids
from moebench.results.record.prediction import read
from moebench.suites.prediction.machine import machine as described
from moebench.suites.prediction.machine import to_toml

ARGUMENTS = ("--model", "DeepSeek-V3", "--machine", "dgx-h100")


def moebench(*arguments: object, width: int = 80) -> Result:
    return CliRunner(env={"COLUMNS": str(width)}).invoke(app, ["predict", *map(str, arguments)])


def test_it_names_the_fastest_for_every_number_of_ranks() -> None:
    answer = moebench(*ARGUMENTS, "--ranks", "8,16,512")
    assert answer.exit_code == 0
    assert answer.output.count("alltoall_dedup") >= 3
    assert "fastest: " in answer.output
    assert "predicted, not measured" in answer.output
    assert "on 512 ranks, groups of 256 ranks hold all experts each" in answer.output


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    answer = moebench(*ARGUMENTS, "--ranks", "8..65536", width=width)
    assert max(len(line.rstrip()) for line in answer.output.splitlines()) <= width


def test_json_and_the_file_hold_the_same(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    printed = json.loads(moebench(*ARGUMENTS, "--ranks", "8", "--json", "--output", path).output)
    assert [one.dispatcher for one in read(path)] == [one["dispatcher"] for one in printed]
    assert all(one["kind"] == "prediction" for one in printed)
    assert printed[0]["expected"]["seconds"] > 0


def test_a_description_of_a_machine_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "evil.toml"
    path.write_text(to_toml(described("dgx-h100").model_copy(update={"summary": "\x1b[2Jgone"})))
    answer = moebench("--model", "DeepSeek-V3", "--machine", path, "--ranks", "8")
    assert "[2Jgone\n" in answer.output
    assert "\x1b" not in answer.output


def test_every_option_reaches_the_problem(tmp_path: Path) -> None:
    write_ids(tmp_path / "t.npy", np.random.default_rng(0).permuted(np.tile(np.arange(8), (64, 1)), axis=1)[:, :2])
    options = ("--tokens-per-rank", 100, "--width", 512, "--dtype", "float16", "--capacity-factor", 1.5)
    more = ("--mode", "train", "--chunks", 2, "--wire", "float32", "--load", f"trace:{tmp_path / 't.npy'}")
    answer = moebench("-m", "Mixtral-8x7B", "--machine", "dgx-a100", "--ranks", "4", *options, *more, "--json")
    found = json.loads(answer.output)[0]
    problem = found["problem"]
    assert (problem["T"], problem["D"], problem["dtype"], problem["capacity_factor"]) == (400, 512, "float16", 1.5)
    assert (problem["mode"], problem["wire"], found["chunks"]) == ("train", "float32", 2)
    assert problem["load"].startswith("trace:/")


def test_dispatchers_that_cannot_and_memory_that_is_short_are_said() -> None:
    odd = moebench(*ARGUMENTS, "--ranks", "12")
    assert "on 12 ranks, hierarchical needs as many ranks on every node" in odd.output
    large = moebench(*ARGUMENTS, "--ranks", "256", "--tokens", 32768)
    assert "too large" in large.output
    assert "fastest: alltoall" in large.output
    none = moebench(*ARGUMENTS, "--ranks", "1", "--tokens", 10_000_000)
    assert "fastest: none fits on 1 rank" in none.output


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("--model", "DeepSeek-V", "--machine", "dgx-h100"), "did you mean DeepSeek-V"),
        (("--model", "DeepSeek-V3", "--machine", "dgx-h10"), "did you mean dgx-h100"),
        (("--model", "DeepSeek-V3", "--machine", "missing.toml"), "missing.toml"),
        ((*ARGUMENTS, "--ranks", "many"), "'many' is not a number of ranks"),
        ((*ARGUMENTS, "--ranks", "0"), "'0' is not a number of ranks"),
        ((*ARGUMENTS, "--ranks", "5..7"), "no power of two lies in 5..7"),
        ((*ARGUMENTS, "--ranks", "8..4"), "no power of two lies in 8..4"),
        ((*ARGUMENTS, "--ranks", ""), "is not a number of ranks"),
        ((*ARGUMENTS, "--load", "zipf"), "load = 'zipf'"),
        ((*ARGUMENTS, "--load", "trace:missing.npy"), "missing.npy"),
        ((*ARGUMENTS, "--dtype", "int8"), "dtype = 'int8'"),
        ((*ARGUMENTS, "--wire", "int8"), "'float8_e4m3fn'"),
        ((*ARGUMENTS, "--capacity", "-1"), "--capacity -1: give a positive number, or dropless"),
        (("--model", "DeepSeek-V3", "--machine", "dgx-a100", "--dtype", "float8_e4m3fn"), "give one of float32"),
        ((*ARGUMENTS, "--output", "/proc/none/p.jsonl"), "give an --output that can be written"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(
    arguments: tuple[str, ...], remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = moebench(*arguments, width=300)
    assert answer.exit_code == 2
    assert remedy in answer.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("model", "torch"), [("Kimi-K2", False), ("DeepSeek-V3", True)])
def test_the_whole_range_takes_seconds_and_torch_for_groups_alone(model: str, torch: bool, tmp_path: Path) -> None:
    """Ten seconds on two cores are promised; choices within groups of experts are counted in drawn routes."""
    command = (
        "import sys; from moebench.cli.main import main\ntry: main()\nfinally: assert ('torch' in sys.modules) is %s"
    )
    start = time.perf_counter()
    arguments = ["predict", "--model", model, "--machine", "dgx-h100", "--ranks", "8..65536", "--load", "zipf:1.2"]
    run = subprocess.run(
        [sys.executable, "-c", command % torch, *arguments], cwd=tmp_path, capture_output=True, check=True
    )
    assert time.perf_counter() - start < 10
    assert b"65\xe2\x80\xaf536" in run.stdout
