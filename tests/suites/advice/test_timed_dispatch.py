"""Margins: what is certain, likely, tied and unclear, and why."""

from __future__ import annotations

from typing import Any

import pytest
from advised import PROBLEM, timed
from hypothesis import given
from hypothesis import strategies as st

from moebench.results.record import Record
from moebench.results.record.advice import AdviceSource, Certainty, Margin
from moebench.suites.advice.recorded_times import RecordedTimes
from moebench.suites.advice.timed_dispatch import PREDICTION_ERROR, TimedDispatch, margin


def of_records(T: int, *records: Record) -> Margin:
    found = RecordedTimes(records).of(PROBLEM.replace(T=T))
    assert found is not None
    return margin(*found.fastest_first().dispatches[:2])


def dispatch(seconds: float, **changes: Any) -> TimedDispatch:
    fields: dict[str, Any] = {"kernel": "a", "config": {}, "source": AdviceSource.predicted, "basis": "", **changes}
    return TimedDispatch(seconds=seconds, **fields)


def test_an_interval_that_excludes_one_is_certain_and_one_that_holds_it_is_tied() -> None:
    sure = of_records(64, timed("loop", 64, 1.1), timed("grouped", 64, 1.0))
    assert (sure.over, sure.certainty) == ("loop", Certainty.certain)
    assert sure.low is not None
    assert sure.high is not None
    assert 1 < sure.low <= sure.ratio <= sure.high
    tied = of_records(64, timed("loop", 64, 1.01, spread=0.2), timed("grouped", 64, 1.0, spread=0.2))
    assert tied.certainty is Certainty.tied
    assert tied.low is not None
    assert tied.low < 1 < (tied.high or 0)


def test_trials_of_different_times_are_unclear_however_far_they_are_apart() -> None:
    found = of_records(64, timed("loop", 64, 100.0), timed("grouped", 64, 1.0, at=1))
    assert (found.certainty, found.low) == (Certainty.unclear, None)
    assert found.ratio == pytest.approx(100)


def test_an_interpolated_margin_is_likely_where_both_sides_are_certain() -> None:
    low = (timed("loop", 64, 2.0), timed("grouped", 64, 1.0))
    assert of_records(128, *low, timed("loop", 256, 2.0), timed("grouped", 256, 1.0)).certainty is Certainty.likely
    crossing = of_records(128, *low, timed("loop", 256, 1.0), timed("grouped", 256, 1.5))
    assert crossing.certainty is Certainty.tied
    noisy = [timed(kernel, 256, ms, spread=0.3) for kernel, ms in (("loop", 1.01), ("grouped", 1.0))]
    assert of_records(128, *low, *noisy).certainty is Certainty.tied
    apart = (timed("loop", 256, 2.0), timed("grouped", 256, 1.0, at=3))
    assert of_records(128, *low, *apart).certainty is Certainty.unclear


@given(st.floats(1e-6, 1e3), st.floats(1, 10))
def test_predictions_are_likely_beyond_their_error_and_tied_within_it(seconds: float, ratio: float) -> None:
    found = margin(dispatch(seconds), dispatch(seconds * ratio))
    assert found.ratio == pytest.approx(ratio)
    if abs(ratio / PREDICTION_ERROR - 1) > 1e-6:
        assert found.certainty is (Certainty.likely if ratio > PREDICTION_ERROR else Certainty.tied)
    assert margin(dispatch(seconds, compared=False), dispatch(seconds * ratio)).certainty is Certainty.unclear


def test_tables_of_two_kernels_never_decide() -> None:
    found = margin(*(dispatch(seconds, source=AdviceSource.tuned_table) for seconds in (1.0, 9.0)))
    assert found.certainty is Certainty.unclear
    assert "tuned apart" in found.why
