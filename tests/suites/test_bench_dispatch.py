"""Suites under pytest-benchmark: its commands work, its numbers are our samples, and nothing wrong gets a time."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.logger import Logger
from pytest_benchmark.utils import NameWrapper
from quick_start import python_m

from moebench.results.benchmark_names import place_of
from moebench.results.record import Size
from moebench.suites.bench_dispatch import Replay
from moebench.suites.plan import tasks
from moebench.suites.suite import SUITES

ROOT = Path(__file__).parents[2]
# Of a run on many cores the processes that it starts are no part: there, benchmarks are disabled.
ALONE = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
SCATTER = "test_dispatch[faulty-tiny, 1, float32 forward-scatter]"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return python_m("pytest", "suites", "-p", "no:cacheprovider", *arguments, cwd=ROOT, env=ALONE | environment)


def faulty(storage: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    plugin = ("-p", "faulty_suite", "--suite", "faulty", "--benchmark-storage", str(storage))
    return run(*plugin, *arguments, PYTHONPATH=str(ROOT / "tests" / "support"))


def test_benchmarks_are_checked_measured_saved_and_compared(tmp_path: Path) -> None:
    """One passes with a time and all that is counted, one fails with its reason, one is skipped with its own."""
    path = tmp_path / "out.json"
    answer = faulty(tmp_path, "--benchmark-only", "--benchmark-save", "first", "--benchmark-json", str(path))
    assert answer.returncode == 1
    assert "1 failed, 1 passed, 1 skipped" in answer.stdout
    assert "crashed: RuntimeError: no such luck" in answer.stdout
    assert "unsupported: megablocks is not installed" in answer.stdout

    (found,) = json.loads(path.read_text())["benchmarks"]
    assert found["fullname"] == f"suites/bench_dispatch.py::{SCATTER}"
    assert found["group"] == "faulty, tiny, 1, float32 forward"
    assert found["params"] == {"suite": "faulty", "place": "tiny, 1, float32 forward", "kernel": "scatter"}
    assert found["extra_info"]["config"]["combine"] == "bag"  # as the point has it, not the default
    assert found["extra_info"]["useful_flops"] == 2 * 32 * 32 * 48 * 3
    assert found["extra_info"]["peak_bytes"] > 0
    assert found["extra_info"]["traffic_bytes"] == 0
    assert found["extra_info"]["clock"] == "perf_counter"
    assert found["stats"]["rounds"] == len(found["stats"]["data"]) >= 10

    answer = faulty(tmp_path, "--benchmark-only", "-k", "scatter", "--benchmark-compare")
    assert answer.returncode == 0, answer.stdout
    assert f"{SCATTER} (NOW)" in answer.stdout
    assert f"{SCATTER} (0001_first)" in answer.stdout


def test_disabled_benchmarks_are_still_checked(tmp_path: Path) -> None:
    answer = faulty(tmp_path, "--benchmark-disable")
    assert "1 failed, 1 passed, 1 skipped" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--suite", "tokns"], "ERROR: no suite is named 'tokns': did you mean tokens"),
        (["--suite", "smoke", "--size", "reduced"], "ERROR: the suite smoke has no reduced form"),
        (["--size", "huge"], "invalid choice: 'huge'"),
    ],
)
def test_a_wrong_word_is_a_usage_error(arguments: list[str], remedy: str) -> None:
    answer = run(*arguments)
    assert answer.returncode == pytest.ExitCode.USAGE_ERROR
    assert remedy in answer.stderr


def test_a_quick_suite_is_the_default_and_tests_are_not_collected_with_it() -> None:
    suites = run("--collect-only", "-q", "-k", "scatter").stdout
    named = [line for line in suites.splitlines() if "::" in line]
    assert named
    assert all("bench_dispatch.py::test_dispatch[smoke-" in line and "scatter" in line for line in named)


@pytest.mark.parametrize("size", get_args(Size))
@pytest.mark.parametrize("name", SUITES.names())
def test_no_two_places_of_a_suite_have_one_name(name: str, size: Size) -> None:
    if size == "reduced" and SUITES.load(name).reduced is None:
        return
    asked = tasks(name, size, "cpu")
    problems = [{"dtype": task.problem.dtype, "mode": task.problem.mode} for task in asked]
    places = {place_of(task.point, {**problem}) for task, problem in zip(asked, problems, strict=True)}
    assert len(places) == len(asked)


def fixture(replay: Replay) -> Any:
    unset = ("precision", "confidence", "warner", "cprofile", "cprofile_loops", "cprofile_dump", "group")
    options: dict[str, Any] = dict.fromkeys(unset)
    return BenchmarkFixture(
        SimpleNamespace(name="name", nodeid="file::name"),
        disable_gc=False,
        timer=NameWrapper(replay.read_s),
        min_rounds=5,
        min_time=0,
        max_time=1,
        warmup=False,
        warmup_iterations=0,
        calibration_precision=10,
        add_stats=lambda _: None,
        logger=Logger(Logger.QUIET),
        disabled=False,
        **options,
    )


@given(samples_ns=st.lists(st.floats(1, 1e12), min_size=1, max_size=30))
def test_what_pytest_benchmark_has_are_the_samples_to_the_last_digit(samples_ns: list[float]) -> None:
    replay = Replay()
    for samples in (samples_ns, [1e9, *samples_ns]):  # one benchmark after the other
        benchmark = fixture(replay)
        replay.show(benchmark, samples)
        assert benchmark.stats.stats.data == [sample / 1e9 for sample in samples]
