"""Medians with honest intervals, and a spread that outliers do not move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.results.stats import CONFIDENCE, Interval, median, spread

SAMPLES = st.lists(st.floats(1, 1e9), min_size=1, max_size=50)


@pytest.mark.parametrize("samples", [10, 31])
def test_the_interval_holds_the_true_median_as_often_as_it_says(samples: int) -> None:
    """Over 400 series of skewed times, whose true median is 1, in about 95 % of them."""
    generator = np.random.default_rng(samples)
    intervals = [median(generator.lognormal(sigma=0.3, size=samples).tolist()) for _ in range(400)]
    share = sum(interval.low <= 1 <= interval.high for interval in intervals) / 400
    assert CONFIDENCE - 0.03 <= share <= CONFIDENCE + 0.03


def test_more_samples_make_the_interval_narrower() -> None:
    generator = np.random.default_rng(0)
    widths = [median(generator.normal(100, 5, size).tolist()) for size in (10, 160, 2560)]
    few, many, most = (interval.high - interval.low for interval in widths)
    assert few > 2 * many > 4 * most


@given(samples=SAMPLES)
def test_the_interval_holds_its_median_and_lies_within_the_samples(samples: list[float]) -> None:
    found = median(samples)
    assert min(samples) <= found.low <= found.value <= found.high <= max(samples)
    assert found.value == np.median(samples)


@given(samples=SAMPLES)
def test_the_same_samples_give_the_same_interval(samples: list[float]) -> None:
    assert median(samples) == median(samples)


def test_one_sample_is_its_own_interval() -> None:
    assert median([7.0]) == Interval(7.0, 7.0, 7.0)
    assert spread([7.0]) == 0


def test_spread_is_half_the_interquartile_range_over_the_median() -> None:
    assert spread([8.0, 9.0, 10.0, 11.0, 12.0]) == pytest.approx(0.1)


@given(samples=SAMPLES, scale=st.floats(1e-3, 1e3))
def test_spread_has_no_unit(samples: list[float], scale: float) -> None:
    assert spread([scale * sample for sample in samples]) == pytest.approx(spread(samples), rel=1e-6, abs=1e-9)


def test_one_outlier_does_not_move_the_spread() -> None:
    quiet = [100.0 + i % 3 for i in range(30)]
    assert spread([*quiet, 1e6]) == pytest.approx(spread(quiet), rel=0.1)
