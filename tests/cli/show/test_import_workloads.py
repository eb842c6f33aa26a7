"""`moebench export --format flashinfer-trace` and `moebench trace import`, there and back, and what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flashinfer_schema import check_dataset
from records import record
from typer.testing import CliRunner

from moebench.cli.main import app
from moebench.kernels.problem import Problem
from moebench.kernels.problem.traces.trace_reader import content_of, describe
from moebench.results.record import Record, Status

SMALL = Problem(T=13, D=16, F=8, E=4, K=2)
OTHER = Problem(T=5, D=16, F=8, E=4, K=2, activation="relu", gated=False, bias=True, dtype="bfloat16")


def moebench(*words: object) -> Any:
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, [str(word) for word in words])


def of(problem: Problem, **changes: Any) -> Record:
    fields = {"problem": {**vars(problem)}, "key": problem.key, "kernel": "loop"}
    return record(problem.T, **fields | changes)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    failed = of(SMALL, status=Status.unsupported, reason="it does not", timing=None)
    made = [of(SMALL), of(SMALL, kernel="grouped"), of(OTHER), failed, of(SMALL.replace(mode="train"))]
    path = tmp_path / "runs.jsonl"
    path.write_text("".join(f"{one.model_dump_json()}\n" for one in made))
    return path


def test_a_dataset_is_written_and_read_again(recorded: Path, tmp_path: Path) -> None:
    folder, trace = tmp_path / "set", tmp_path / "set.npz"
    answer = moebench("export", recorded, "--format", "flashinfer-trace", "-o", folder)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout == f"flashinfer-trace: {folder}, 2 definitions, 2 workloads, 3 solutions, 3 traces\n"
    assert "left out: 1 of status unsupported, which is no evaluation" in answer.stderr
    assert "left out: 1 of a training step" in answer.stderr
    check_dataset(folder)
    answer = moebench("trace", "import", folder, "-o", trace)
    assert answer.exit_code == 0, answer.output
    about = describe(content_of(trace), trace)
    assert answer.stdout.splitlines()[0] == f"trace: {trace}, 18 tokens in 2 layers"
    names = {one.tokens: one.name for one in about.layers}
    assert (
        f"--shape D=16,F=8,E=4,K=2 --tokens 13 --dtype float32 --load trace:{trace},layer={names[13]}"
        in answer.stdout.splitlines()
    )
    assert 'in a suite file also activation = "relu", gated = false, bias = true' in answer.stdout
    options = next(line for line in answer.stdout.splitlines() if "--tokens 13" in line).split()
    planned = moebench("tune", "scatter", *options, "--show-space")
    assert planned.exit_code == 0, planned.output


def test_one_workload_needs_no_name_and_the_file_has_that_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs.jsonl").write_text(of(SMALL).model_dump_json() + "\n")
    assert moebench("export", "runs.jsonl", "--format", "flashinfer_trace", "-o", "a-set").exit_code == 0
    answer = moebench("trace", "import", "a-set")
    assert answer.stdout.splitlines() == [
        "trace: a-set.npz, 13 tokens in 1 layer",
        "--shape D=16,F=8,E=4,K=2 --tokens 13 --dtype float32 --load trace:a-set.npz",
    ]
    assert moebench("trace", "show", "a-set.npz").exit_code == 0


def test_the_format_is_listed_with_the_others() -> None:
    listed = json.loads(moebench("list", "formats", "--json").stdout)
    assert listed["flashinfer_trace"].startswith("FlashInfer-Trace: ")
    assert "pytest_benchmark" in listed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "runs.jsonl", "--format", "flashinfer-trac", "-o", "x"), "did you mean flashinfer_trace"),
        (("export", "runs.jsonl", "--format", "flashinfer-trace", "-o", "full"), "full is no empty folder"),
        (("export", "runs.jsonl", "--format", "flashinfer-trace", "-o", "runs.jsonl"), "is what is read"),
        (
            ("export", "train.jsonl", "--format", "flashinfer-trace", "-o", "x"),
            "no record has a place in a dataset: 1 of",
        ),
        (("export", "runs.jsonl", "--format", "flashinfer-trace", "-o", "runs.jsonl/x"), "give the name of a folder"),
        (("trace", "import", "absent"), "absent is no folder"),
        (("trace", "import", "runs.jsonl"), "runs.jsonl is no folder"),
        (("trace", "import", "full"), "has neither definitions/*.json nor a definition.json"),
        (("trace", "import", "full", "-o", "full"), "full is a folder"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    words: tuple[str, ...], said: str, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recorded.parent)
    Path("train.jsonl").write_text(of(SMALL.replace(mode="train")).model_dump_json() + "\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.txt").write_text("hello")
    answer = moebench(*words)
    assert answer.exit_code == 2, answer.output
    assert said in answer.stderr.replace("\n", " ")
    assert not (tmp_path / "x").exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["full", "runs.jsonl", "train.jsonl"]


def test_workloads_without_stored_routes_are_told_and_the_others_kept(recorded: Path, tmp_path: Path) -> None:
    moebench("export", recorded, "--format", "flashinfer-trace", "-o", tmp_path / "set")
    for path in (tmp_path / "set/workloads/moe").glob("*bias*.jsonl"):
        line = json.loads(path.read_text())
        line["workload"]["inputs"]["topk_ids"] = {"type": "random"}
        path.write_text(json.dumps(line))
    answer = moebench("trace", "import", tmp_path / "set", "-o", tmp_path / "a.npz")
    assert answer.exit_code == 0
    assert "topk_ids is random, not stored: it has no real routes" in answer.stderr
    assert "13 tokens in 1 layer" in answer.stdout
