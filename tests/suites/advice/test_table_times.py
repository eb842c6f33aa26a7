"""Times from tuned tables: of the folder on this machine, and of records of tuning runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from advised import ELSEWHERE, recorded
from tables import CONFIGS, PROBLEM, bucket, entry, environment, table
from tuner_records import batch

from moebench.kernels.problem import Problem
from moebench.kernels.tuned.lookup import FOLDER, STALE
from moebench.results.record import Record
from moebench.results.record.advice import AdviceSource
from moebench.suites.advice.advised_device import AdvisedDevice, advised_device
from moebench.suites.advice.table_times import TableTimes

FIRST, SECOND, THIRD = map(dict, CONFIGS)
TUNED = Problem(T=256, D=512, F=192, E=128, K=8, dtype="bfloat16")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of tables, which has one of ``scatter``."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.delenv(STALE, raising=False)
    (tmp_path / "one.json").write_text(table(entry(bucket(64, [3e6, 2e6, None]), bucket(256, [9e6, 8e6, None]))).text())
    return tmp_path


@pytest.fixture
def here() -> AdvisedDevice:
    return advised_device("cpu", ())


@pytest.fixture(scope="module")
def tuning() -> list[Record]:
    return recorded("cpu-tuned.jsonl")


def test_a_table_of_the_folder_answers_for_this_machine_only(here: AdvisedDevice) -> None:
    found = TableTimes((), here).of(PROBLEM)
    assert found is not None
    (one,) = found.dispatches
    assert (one.kernel, one.config) == ("scatter", CONFIGS[1])
    assert one.seconds == pytest.approx(2e-3)
    assert one.source is AdviceSource.tuned_table
    assert one.basis == "tuned table, tuned at T = 64"
    assert one.peak_bytes
    assert TableTimes((), ELSEWHERE).of(PROBLEM) is None
    assert TableTimes((), here).of(PROBLEM.replace(T=1000)) is None


def test_a_stale_table_of_the_folder_does_not_answer(here: AdvisedDevice, home: Path) -> None:
    (home / "one.json").write_text(table(environment=environment(torch="1.0.0")).text())
    assert TableTimes((), here).of(PROBLEM) is None


@pytest.mark.parametrize("T", [64, 256, 1024, 2048])
def test_records_of_a_tuning_run_answer_with_the_winner_of_their_table(T: int, tuning: list[Record]) -> None:
    found = TableTimes(tuning, advised_device(None, tuning)).of(TUNED.replace(T=T))
    assert found is not None
    (one,) = found.dispatches
    assert one.kernel == "scatter"
    assert (one.config["gather"], one.config["combine"]) == ("all", "bag")
    assert one.basis.startswith(f"tuned table of the records, tuned at T = {T}")


def test_of_several_tables_of_a_kernel_a_cold_and_new_one_comes_first_and_others_fill_its_gaps() -> None:
    old, new = (
        [
            *batch(
                "final",
                64,
                [(FIRST, 100), (FIRST, 100), (second, 50)],
                time=f"{year}-03-01T10:00:00+00:00",
                source=year,
            )
        ]
        for year, second in (("2025", SECOND), ("2026", THIRD))
    )
    hot = batch("final", 64, [(FIRST, 100), (FIRST, 100), (SECOND, 10)], cache="hot")
    at_256 = batch("final", 256, [(FIRST, 400), (FIRST, 400), (SECOND, 200)], source="2024")
    for records in ([*old, *new, *hot, *at_256], [*hot, *at_256, *new, *old]):
        times = TableTimes(records, ELSEWHERE)
        for T, config in ((64, THIRD), (256, SECOND)):
            found = times.of(PROBLEM.replace(T=T))
            assert found is not None
            assert [one.config for one in found.dispatches] == [config]


def test_records_of_a_tuning_run_answer_for_their_loads_and_between_their_tokens(tuning: list[Record]) -> None:
    times = TableTimes(tuning, advised_device(None, tuning))
    between = times.of(TUNED.replace(T=400))
    assert between is not None
    assert "between T = 256 and T = 1024" in between.dispatches[0].basis
    skewed = times.of(TUNED.replace(load="zipf:1.20"))
    assert skewed is not None
    assert times.of(TUNED.replace(load="zipf:0.5")) is None
    assert times.of(TUNED.replace(T=16)) is None
    assert times.of(TUNED.replace(E=64)) is None
    assert times.of(TUNED.replace(mode="train")) is None
