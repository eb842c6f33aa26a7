"""Records as pytest-benchmark has them: its statistics, its names, and nothing else that a file may hold."""

from __future__ import annotations

import json
import re
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import ENVIRONMENT, TIMING, record, records

from moebench.reports.formats.pytest_benchmark import TIMES_NS, BenchmarkError, document
from moebench.results.record import Record, Status

PROBLEM = {"dtype": "float32", "mode": "forward"}
# What the common action for charts reads of every benchmark, where `tool` is pytest.
CHARTED = ("ops", "stddev", "mean", "rounds")


def benchmarks(*of: Record) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(document(of))["benchmarks"]
    return found


def test_a_record_is_a_benchmark_with_the_name_that_pytest_gives_it() -> None:
    (found,) = benchmarks(record(512, problem=PROBLEM))
    assert found["fullname"] == "suites/bench_dispatch.py::test_dispatch[test-s, 512, float32 forward-loop]"
    assert found["name"] == "test_dispatch[test-s, 512, float32 forward-loop]"
    assert found["param"] == "test-s, 512, float32 forward-loop"
    assert found["params"] == {"suite": "test", "place": "s, 512, float32 forward", "kernel": "loop"}
    assert found["group"] == "test, s, 512, float32 forward"


def test_statistics_are_of_seconds() -> None:
    (found,) = benchmarks(record(problem=PROBLEM))
    stats = found["stats"]
    assert stats["data"] == [3e-9, 1e-9, 2e-9]
    assert (stats["min"], stats["median"], stats["max"], stats["rounds"]) == (1e-9, 2e-9, 3e-9, 3)
    assert stats["mean"] == pytest.approx(2e-9)
    assert stats["stddev"] == pytest.approx(statistics.stdev([1e-9, 2e-9, 3e-9]))
    assert stats["ops"] == pytest.approx(5e8)
    assert all(isinstance(stats[name], float | int) for name in CHARTED)


def test_only_what_passed_is_a_benchmark() -> None:
    failed = record(2, status=Status.crashed, timing=None, reason="no luck")
    assert len(benchmarks(record(1), failed)) == 1
    with pytest.raises(BenchmarkError, match="none of the records has passed"):
        document([failed])


def test_one_file_is_of_one_machine() -> None:
    other = ENVIRONMENT.model_copy(update={"device": "another CPU"})
    with pytest.raises(BenchmarkError, match=r"several environments \(device: a CPU / another CPU\): export each"):
        document([record(1), record(2, environment=other)])
    held = json.loads(document([record(1, commit="abc-dirty")]))
    assert held["machine_info"]["device"] == "a CPU"
    assert (held["commit_info"]["id"], held["commit_info"]["dirty"]) == ("abc", True)


def test_configurations_of_one_place_are_told_apart() -> None:
    several = [record(config={"tile": tile}) for tile in (64, 128)]
    names = [found["param"] for found in benchmarks(*several, record(2))]
    at = "test-s, 1, None None-loop"
    assert names == [f"{at} tile=64", f"{at} tile=128", "test-s, 2, None None-loop"]


@given(made=records(), sample=st.floats(*TIMES_NS))
def test_any_record_gives_json_with_names_of_plain_characters(made: Record, sample: float) -> None:
    """Whatever a file of records holds: no path, no markup, no line break, and numbers that JSON has."""
    passed = made.model_copy(update={"timing": TIMING.model_copy(update={"samples_ns": [sample, 1.0]})})
    (found,) = json.loads(document([passed]), parse_constant=pytest.fail)["benchmarks"]
    inside = found["fullname"].removeprefix("suites/bench_dispatch.py::test_dispatch[").removesuffix("]")
    assert inside == found["param"]
    for text in (inside, found["group"], *found["params"].values()):
        assert re.fullmatch(r"[A-Za-z0-9 .,=+_-]{0,600}", text)
    assert found["stats"]["data"] == [sample / 1e9, 1e-9]


def test_numbers_that_json_has_not_are_left_empty() -> None:
    (found,) = benchmarks(record(config={"share": float("nan"), "more": float("inf")}))
    assert found["extra_info"]["config"] == {"share": None, "more": None}


@pytest.mark.parametrize("sample", [1e308, float("inf"), 1e-300])
def test_samples_that_are_no_times_are_refused(sample: float) -> None:
    made = record(timing=TIMING.model_copy(update={"samples_ns": [1.0, sample]}))
    with pytest.raises(BenchmarkError, match=r"the samples of test-s, 1, None None-loop are no times"):
        document([made])
