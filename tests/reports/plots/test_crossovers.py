"""A crossover is where two lines meet on logarithmic scales, and noise is none."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
import pytest
from drawn import frame_of
from hypothesis import given
from hypothesis import strategies as st

from moebench.reports.plots.crossovers import crossovers
from moebench.results.record import Record

Make = Callable[..., Record]
MS = st.floats(0.01, 100)


def _frame(times: dict[float, dict[str, float]], tied: bool = False) -> pd.DataFrame:
    rows = [
        {"x": x, "T": x, "numeric": True, "competes": True, "kernel": kernel, "median_ms": ms, "leads": tied}
        for x, kernels in times.items()
        for kernel, ms in kernels.items()
    ]
    return pd.DataFrame(rows)


@given(st.tuples(MS, MS, MS, MS))
def test_both_lines_have_the_same_time_at_a_crossover(ms: tuple[float, float, float, float]) -> None:
    times = {16.0: {"a": ms[0], "b": ms[1]}, 256.0: {"a": ms[2], "b": ms[3]}}
    found = crossovers(_frame(times))
    changes = (ms[0] < ms[1] and ms[3] < ms[2]) or (ms[1] < ms[0] and ms[2] < ms[3])
    assert len(found) >= changes
    for one in found:
        share = (math.log(one.x) - math.log(16)) / (math.log(256) - math.log(16))
        assert -1e-9 <= share <= 1 + 1e-9
        a, b = ((1 - share) * math.log(times[16.0][kernel]) + share * math.log(times[256.0][kernel]) for kernel in "ab")
        assert a == pytest.approx(b, abs=1e-6)


def test_its_words_name_both_kernels_and_the_places_around_it() -> None:
    (one,) = crossovers(_frame({1.0: {"loop": 1.0, "scatter": 4.0}, 4.0: {"loop": 4.0, "scatter": 1.0}}))
    assert one.x == pytest.approx(2)
    assert one.words == "T ≈ 2.00 (between 1 and 4): loop → scatter"
    assert one.note == "T ≈ 2.00: loop → scatter", "the panel shows the places around it"


def test_a_change_between_kernels_that_are_tied_on_both_sides_is_noise() -> None:
    times = {1.0: {"a": 1.0, "b": 1.01}, 4.0: {"a": 1.01, "b": 1.0}}
    assert crossovers(_frame(times, tied=True)) == []


def test_a_change_from_a_tie_to_a_clear_winner_is_a_crossover() -> None:
    frame = _frame({1.0: {"a": 1.0, "b": 1.01}, 4.0: {"a": 2.0, "b": 1.0}}, tied=True)
    frame["leads"] = (frame["x"] == 1) | (frame["kernel"] == "b")
    assert [(one.before, one.after) for one in crossovers(frame)] == [("a", "b")]


def test_a_kernel_without_a_time_on_the_other_side_gives_no_place() -> None:
    assert crossovers(_frame({1.0: {"a": 1.0}, 4.0: {"a": 1.0, "b": 0.5}})) == []


def test_an_axis_that_is_not_of_tokens_has_none(make: Make, suites: dict[str, list[Record]]) -> None:
    times = ((1.0, "a", 1.0), (1.0, "b", 2.0), (4.0, "a", 2.0), (4.0, "b", 1.0))
    records = [make(kernel, x=x, ms=ms) for x, kernel, ms in times]
    assert crossovers(frame_of(records)) == [], "x is not T"
    assert crossovers(frame_of(suites["models"])) == []
