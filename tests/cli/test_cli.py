"""The command: exit codes, messages that name the remedy, JSON for machines, and a quick --help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from exhaustive import all_but
from records import ENVIRONMENT
from typer.testing import CliRunner, Result

from moebench.cli.main import app
from moebench.cli.measure import run
from moebench.execution.trial.task import Task
from moebench.execution.workers.executor import Executor
from moebench.execution.workers.supervisor import unmeasured
from moebench.execution.workers.worker import Ready
from moebench.results.record import Record, Status
from moebench.results.record.store import load

RECORDED = Path(__file__).parents[2] / "results" / "recorded"
MOEBENCH = Path(sys.executable).with_name("moebench")
TINY = ("--shape", "D=32,F=48,E=4,K=2", "--dtype", "float32", "--device", "cpu", "--samples", "5")


def moebench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "400"}  # so that no sentence is broken
    return subprocess.run(
        [str(MOEBENCH), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def here(*arguments: str) -> Result:
    """Run the command in this process; `clock` binds threads unless somebody has decided otherwise."""
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "400", "OMP_PROC_BIND": "false"})


def test_help_is_quick_and_names_the_verbs(tmp_path: Path) -> None:
    """By the time of a core, because others may use it, too."""
    moebench("--help", cwd=tmp_path)
    tries = []
    for _ in range(3):
        before = os.times()
        answer = moebench("--help", cwd=tmp_path)
        after = os.times()
        tries.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert answer.returncode == 0
    assert all(verb in answer.stdout for verb in ("doctor", "list", "run", "report"))
    assert min(tries) < 0.5


def test_no_library_is_imported_for_the_help(tmp_path: Path) -> None:
    """Verbs import what they need; that takes tenths of a second before anything is shown."""
    heavy = "{'numpy', 'pydantic', 'pandas', 'scipy', 'rich', 'torch'}"
    code = f"import sys, moebench.cli.main; sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    answer = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("group", ["trace", "tables", "kernels"])
def test_a_group_without_a_verb_shows_its_verbs_with_whole_sentences(group: str) -> None:
    answer = here(group)
    assert answer.exit_code == 2
    assert answer.output.startswith("Usage: ")
    assert "Error" not in answer.output
    assert "..." not in answer.output.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["run", "smok"], "did you mean smoke"),
        (["run", "smoke", "--kernel", "scater"], "did you mean scatter"),
        (["run", "models", "--model", "Mixtral-8x7"], "did you mean Mixtral-8x7B"),
        (["run", "smoke", "--tokens", "0"], "--tokens 0: '0' is no batch size"),
        (["run", "smoke", "--device", "tpu"], "Invalid value for '--device': 'tpu' is not one of 'cpu', 'cuda'"),
        (["run", "smoke", "--device", "cpu", "--cache", "hot"], "use cold or eager"),
        (["run", "smoke", "--size", "reduced"], "one of capacity, experts, granularity, models, tokens"),
        (["run", "smoke", "--outptu", "x.jsonl"], "--output"),
        (["run", "smoke", "--interleave-with", "/nowhere"], "--interleave-with"),
        (["clock", "--output", "/nowhere/x.json"], "--output /nowhere/x.json: No such file or directory"),
        (["rum"], "run"),
        (["list", "kernel"], "'kernels'"),
        (["report", "missing.jsonl"], "missing.jsonl"),
        (["run", "smoke", "--output", "/proc/none/x.jsonl"], "--output"),
    ],
)
def test_what_cannot_be_done_is_said_with_exit_code_2(
    arguments: list[str], remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = here(*arguments)
    assert answer.exit_code == 2
    assert remedy in answer.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["kernels", "suites", "routers"])
def test_lists_describe_every_entry_as_text_and_as_json(kind: str) -> None:
    answer = here("list", kind)
    entries = json.loads(here("list", kind, "--json").stdout)
    assert entries
    for name, summary in entries.items():
        assert summary
        assert f"{name} " in answer.stdout
        assert summary in answer.stdout


def test_models_are_listed_with_their_shapes_as_text_and_as_json() -> None:
    answer = here("list", "models")
    for name, fields in json.loads(here("list", "models", "--json").stdout).items():
        (line,) = [one for one in answer.stdout.splitlines() if one.startswith(f"{name} ")]
        assert all(str(fields[letter]) in line for letter in "DFEK")


FEW_SAMPLES = """
from moebench.cli.main import main
from moebench.execution.trial import clock_check

clock_check.SAMPLES, clock_check.TURNS, clock_check.TIMER_S = 2, 1, 0.01
main()
"""


def test_clock_says_by_how_much_the_clocks_differ(tmp_path: Path) -> None:
    """In a process of its own, because it binds its threads."""
    words = [sys.executable, "-c", FEW_SAMPLES, "clock", "--device", "cpu", "--output", "clock.json"]
    answer = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads((tmp_path / "clock.json").read_text())
    assert found["skipped"] == []
    assert {one["rival"] for one in found["comparisons"]} == {"torch.utils.benchmark", "a flush that writes"}
    for one in found["comparisons"]:
        assert one["difference"] == pytest.approx(one["ours_ms"] / one["rival_ms"] - 1)
        assert f"{100 * one['difference']:+.1f}" in answer.stdout
    assert found["environment"]["device_type"] == "cpu"


@pytest.mark.slow
def test_two_runs_alternate_and_take_no_more_samples_than_allowed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    arguments = ["run", "smoke", "--kernel", "scatter", "--device", "cpu", "--samples", "12"]
    arguments += ["--interleave-with", str(shared)]
    outputs = [tmp_path / "one.jsonl", tmp_path / "other.jsonl"]
    both = [subprocess.Popen([str(MOEBENCH), *arguments, "--output", str(output)], cwd=tmp_path) for output in outputs]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert len(list(shared.glob("*.here"))) == 2
    for output in outputs:
        for record in load(output).records:
            assert record.timing is not None
            assert len(record.timing.samples_ns) <= 12
            assert record.environment.threads == record.environment.cores  # bound, but not to one core


def test_run_writes_records_and_pages_and_continues(tmp_path: Path) -> None:
    arguments = ["run", "parallel", "--kernel", "alltoall", *TINY, "--output", "out/r.jsonl", "--json"]
    with subprocess.Popen(
        [str(MOEBENCH), *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        path = tmp_path / "out" / "r.jsonl"
        deadline = time.monotonic() + 120
        while not (path.exists() and path.read_bytes().count(b"\n") >= 1):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)  # as Slurm, docker and CI stop a job; Ctrl-C has the same effect
        answer = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert "interrupted; continue with --output out/r.jsonl" in answer
    kept = load(path)
    assert kept.problems == []
    assert kept.records
    assert path.with_suffix(".html").exists()

    truncated = path.read_bytes() + b'{"schema_version": 2, "point"'
    path.write_bytes(truncated)
    again = here("report", str(path))
    assert again.exit_code == 0
    assert f"r.jsonl:{len(kept.records) + 1}: not a record" in again.stderr
    page = path.with_suffix(".html").read_text()
    assert "alltoall" in page
    report = json.loads(here("report", str(path), "--json").stdout)
    assert report["points"][0]["kernels"]["alltoall"]["status"] == "passed"
    assert here("report", str(path), "-o", str(tmp_path / "table.csv")).exit_code == 0
    assert (tmp_path / "table.csv").read_text().startswith("suite,series,x,T,D,F,E,K")
    assert here("report", str(path), "-o", str(tmp_path / "page.pdf")).exit_code == 2


class TooSmall:
    """Fake slot in whose memory no point fits."""

    def start(self) -> Ready:
        return Ready(ENVIRONMENT, "0123abc")

    def run(self, task: Task) -> list[Record]:
        made = [
            unmeasured(task, who, self.start(), Status.out_of_memory, "needs about 57.0 GiB")
            for who in task.competitors
        ]
        return [record.model_copy(update={"needed_bytes": 57 << 30}) for record in made]

    def stop(self) -> None:
        return


@pytest.mark.parametrize("as_json", all_but([False], [False, True]))
def test_the_last_line_of_a_run_says_what_memory_was_too_small_for(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like refusals, points that did not fit leave the exit code at 0."""
    monkeypatch.setattr(run, "executors_of_run", lambda *_, **__: lambda *_: Executor({"a": TooSmall()}))
    output = str(tmp_path / "r.jsonl")
    answer = here("run", "smoke", *TINY, "--kernel", "scatter", "--output", output, *(["--json"] if as_json else []))
    assert answer.exit_code == 0
    if as_json:
        assert json.loads(answer.stdout)["out_of_memory"]["needed_bytes"] == 57 << 30
    else:
        last = answer.stdout.splitlines()[-1]
        assert "ran out of memory: the largest needed about 57.0 GiB" in last


def test_a_refusal_of_the_command_is_no_traceback(tmp_path: Path) -> None:
    answer = moebench("run", "smok", cwd=tmp_path)
    assert answer.returncode == 2
    assert "did you mean smoke" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_said_with_the_remedy(tmp_path: Path) -> None:
    answer = here("run", "smoke", "--device", "cuda", "--output", str(tmp_path / "r.jsonl"))
    assert answer.exit_code == 2
    assert "torch sees 0 CUDA devices, 1 wanted; use --device cpu" in answer.stderr


def test_predictions_alone_are_named_as_such(tmp_path: Path) -> None:
    file = RECORDED / "network.predictions.jsonl"
    answer = moebench("report", str(file), "-o", "p.html", cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr == f"moebench: {file}: predictions are drawn beside records: give the file of these too\n"


def test_a_file_without_records_makes_a_page_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("no record\n")
    answer = here("report", str(tmp_path / "empty.jsonl"))
    assert answer.exit_code == 1
    assert "no records in" in answer.stderr
    for suffix in (".html", ".md"):
        page = (tmp_path / f"empty{suffix}").read_text(encoding="utf-8")
        assert "No records." in page
        assert "empty.jsonl" in page, "and what could not be read"


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_no_records_are_no_rows(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "empty.jsonl").write_text("")
    answer = here("report", str(tmp_path / "empty.jsonl"), "-o", str(tmp_path / f"r{suffix}"))
    assert answer.exit_code == 1
    assert (tmp_path / f"r{suffix}").exists()


def test_run_times_stages_where_they_are_asked_for(tmp_path: Path) -> None:
    output = tmp_path / "records.jsonl"
    assert here("run", "smoke", *TINY, "--kernel", "scatter", "--output", str(output), "--stages").exit_code == 0
    for one in load(output).records:
        assert one.stages is not None
        assert {"dispatch", "up", "down", "combine"} <= one.stages.stages_ns.keys()
