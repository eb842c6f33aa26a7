"""`moebench firstlight`: refusals, rehearsals, stopping and continuing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from quick_start import python_m
from typer.testing import CliRunner

from moebench.cli.main import app
from moebench.results.record.store import load
from moebench.suites.firstlight import device_check
from moebench.suites.firstlight.forms import REHEARSAL
from moebench.suites.firstlight.session_steps import declared

TESTS = Path(__file__).parents[2]
MOEBENCH = (sys.executable, "-m", "moebench.cli.main", "firstlight")
# Tests decide for themselves what they interpret; a session does so as well.
ALONE = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")


def firstlight(*arguments: str, cwd: Path, environment: Mapping[str, str] = ALONE) -> subprocess.CompletedProcess[str]:
    if environment is ALONE:
        return python_m("moebench.cli.main", "firstlight", *arguments, cwd=cwd, env=environment)
    command = [*MOEBENCH, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads((folder / "steps.json").read_text())["steps"]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "o", "--stage", "4"], "--stage 4: give 1, 2, 3 or all"),
        (["--output", "o", "--step", "ncuu"], "no step is named 'ncuu': did you mean ncu"),
        (["--output", "/proc/none", "--rehearse"], "/proc/none: No such file or directory; give an --output"),
        pytest.param(["--output", "o"], "torch sees 0 CUDA devices, 1 wanted; use --rehearse", marks=without_gpu),
    ],
)
def test_bad_input_is_one_line_with_the_remedy_and_exit_code_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    answer = firstlight(*arguments, cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"moebench: {said}")
    assert answer.stderr.count("\n") == 1
    assert not answer.stdout
    assert not list(tmp_path.rglob("*.json*"))


def test_an_unfit_device_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = subprocess.CompletedProcess([], device_check.UNFIT, "", "GPU 0 (an H100) is busy: end it\n")
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_kwargs: refused)
    answer = CliRunner().invoke(app, ["firstlight", "--output", str(tmp_path / "o")])
    assert answer.exit_code == 2
    assert answer.stderr == "moebench: GPU 0 (an H100) is busy: end it\n"
    assert not (tmp_path / "o" / "steps.json").exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "steps.json").write_text("{}")
    answer = firstlight("--output", ".", "--rehearse", cwd=tmp_path)
    assert answer.returncode == 2
    assert "steps.json is not the journal of a session" in answer.stderr
    assert (tmp_path / "steps.json").read_text() == "{}"


def test_the_steps_are_listed_with_their_limits(tmp_path: Path) -> None:
    answer = firstlight("--output", "o", "--stage", "2", "--list", cwd=tmp_path)
    assert [line.split()[:2] for line in answer.stdout.splitlines()] == [
        ["2.1", "variants"],
        ["2.2", "ncu"],
        ["2.3", "compute-sanitizer"],
        ["2.4", "trace"],
    ]
    assert not list(tmp_path.iterdir())


def test_some_steps_are_rehearsed_repeated_and_continued(tmp_path: Path) -> None:
    """Two steps that write files, one of them records, and the page; then a second run with nothing to do."""
    answer = firstlight("--output", "o", "--rehearse", "--step", "peers", "--step", "ncu", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    found = entries(tmp_path / "o")
    assert {name: entry["status"] for name, entry in found.items() if entry["status"] != "waiting"} == {
        "ncu": "done",
        "peers": "done",
        "page": "done",
    }
    assert found["peers"]["files"] == ["peers.jsonl", "logs/peers.out"]
    assert found["peers"]["records"] == {"passed": 1, "unsupported": 1}
    assert len(load(tmp_path / "o" / "peers.jsonl").records) == 2
    assert "How fast are others" in (tmp_path / "o" / "page.html").read_text()
    assert "peers: done in" in answer.stdout

    again = firstlight("--output", "o", "--rehearse", "--step", "peers", cwd=tmp_path)
    assert again.returncode == 0
    assert len(load(tmp_path / "o" / "peers.jsonl").records) == 2  # what was measured is not measured again
    assert entries(tmp_path / "o")["ncu"] == found["ncu"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_the_session_and_both_are_reported(number: signal.Signals, tmp_path: Path) -> None:
    command = [*MOEBENCH, "--output", "o", "--rehearse", "--stage", "2"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=ALONE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 60
    while not (tmp_path / "o" / "logs" / "variants.out").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err == "moebench: stopped; finished steps are kept, --output o continues the session\n"
    found = entries(tmp_path / "o")
    assert found["variants"]["status"] == "interrupted"
    assert {found[name]["status"] for name in ("ncu", "trace", "page")} == {"waiting"}
    assert "variants: interrupted" in out
    assert not running(tmp_path / "o")


def running(folder: Path) -> list[str]:
    """Return the command lines of processes whose working directory is a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder.resolve():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def lacking(folder: Path, *names: str) -> dict[str, str]:
    """Return the variables of a Python without some packages; its path is relative to a folder."""
    (folder / "sitecustomize.py").write_text(
        "import importlib.machinery\n"
        "find_spec = importlib.machinery.PathFinder.find_spec\n"
        "def without(name, path=None, target=None):\n"
        f"    return None if name.partition('.')[0] in {names} else find_spec(name, path, target)\n"
        "importlib.machinery.PathFinder.find_spec = without\n"
    )
    return ALONE | {"PYTHONPATH": "."}


@pytest.mark.exhaustive
def test_what_a_bare_machine_lacks_costs_only_what_needs_it(tmp_path: Path) -> None:
    """Without nox, tests, pytest, peers and plots, the steps that need them give a reason and the others run."""
    absent = ("cupy", "hypothesis", "matplotlib", "nox", "pynvml", "pytest", "ray", "transformers", "xdist")
    answer = firstlight(
        *("--output", "o", "--rehearse", "--tests", str(TESTS), "--step", "tests", "--step", "complete"),
        cwd=tmp_path,
        environment=lacking(tmp_path, *absent),
    )
    found = entries(tmp_path / "o")
    assert answer.returncode == 0, answer.stderr
    assert found["tests"]["status"] == "skipped"
    assert found["tests"]["reason"] == "pytest is not installed; bring its wheel along (docs/gpu.md)"
    assert found["complete"]["status"] == "done"
    assert found["page"]["status"] == "done"
    assert "there are no plots, matplotlib cannot be imported" in (tmp_path / "o" / "page.html").read_text()


def test_a_missing_required_package_is_named(tmp_path: Path) -> None:
    answer = firstlight("--output", "o", "--rehearse", cwd=tmp_path, environment=lacking(tmp_path, "jinja2"))
    assert answer.returncode == 2
    assert answer.stderr.startswith("moebench: jinja2 cannot be imported")
    assert "docs/gpu.md" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.slow
@without_gpu
def test_a_whole_rehearsal_goes_through_every_step_in_under_five_minutes(tmp_path: Path) -> None:
    started = time.monotonic()
    answer = firstlight("--output", "o", "--rehearse", "--tests", str(TESTS), cwd=tmp_path)
    assert time.monotonic() - started < 300
    found = entries(tmp_path / "o")
    reasons = {name: entry["reason"] for name, entry in found.items() if entry["status"] != "done"}
    assert not reasons, answer.stdout
    for step in declared(REHEARSAL, tests=TESTS):
        assert set(step.files) <= set(found[step.name]["files"])
        if step.files and step.files[0].endswith(".jsonl"):
            loaded = load(tmp_path / "o" / step.files[0])
            assert loaded.records
            assert not loaded.problems
            assert not any(record.status.bad for record in loaded.records)
    assert "<svg" in (tmp_path / "o" / "page.html").read_text()
