"""On the recorded sweeps the default strategy is near the best after few trials, and the static model ranks it high."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import pytest
from replay import Study

from moebench.autotune.search.candidates import predictions_of
from moebench.autotune.search.recorded_sweep import RecordedSweep, recorded_sweeps
from moebench.autotune.search.strategy import DEFAULT_STRATEGY
from moebench.results.record.store import load_all

RECORDED = Path(__file__).parents[2] / "results" / "recorded"
FILES = sorted(RECORDED.glob("*sweeps*.jsonl"))


@cache
def recorded() -> dict[str, RecordedSweep]:
    """Return the sweeps of all files by the key of their problem."""
    return {sweep.key: sweep for sweep in recorded_sweeps(load_all(FILES).records)}


KEYS = sorted(recorded())


def test_there_are_some() -> None:
    assert len(KEYS) >= 4


@pytest.mark.parametrize("key", KEYS)
def test_the_default_strategy_is_within_2_percent_after_a_tenth_of_the_trials(key: str) -> None:
    sweep = recorded()[key]
    study = Study.of(DEFAULT_STRATEGY, sweep, predicted=predictions_of(sweep), trials=len(sweep.space) // 10)
    assert study.after(0.1).median <= 0.02


def test_a_record_does_not_say_which_files_are_read() -> None:
    """A sweep whose load is a file of routes has no predictions, and the file is not looked for."""
    sweep = recorded()[KEYS[0]]
    problem = {**sweep.default.problem, "load": "trace:/nobody/has/this.npy#01234567"}
    foreign = dataclasses.replace(sweep, default=sweep.default.model_copy(update={"problem": problem}))
    assert predictions_of(foreign) is None


@pytest.mark.parametrize("key", KEYS)
def test_the_best_is_in_the_top_fifth_of_the_static_model(key: str) -> None:
    sweep = recorded()[key]
    predicted = predictions_of(sweep)
    assert predicted is not None
    assert sweep.share_to_keep(predicted) <= 0.2
