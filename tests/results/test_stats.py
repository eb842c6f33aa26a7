"""Medians with intervals that cover as often as they claim, and a spread that outliers do not move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.results.stats import CONFIDENCE, Interval, mean_ratio, median, ratio, spread

SAMPLES = st.lists(st.floats(1, 1e9), min_size=1, max_size=50)


@pytest.mark.parametrize("samples", [10, 31])
def test_the_interval_holds_the_true_median_as_often_as_it_says(samples: int) -> None:
    """The interval covers the true median, 1, in about 95 % of 400 series of skewed times."""
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


@pytest.mark.parametrize("samples", [10, 31])
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(samples: int) -> None:
    """The interval covers the ratio of medians, 1 to 2, in 95 % or slightly more of 400 pairs of skewed times."""
    generator = np.random.default_rng(samples)

    def drawn() -> Interval:
        one, other = generator.lognormal(sigma=0.3, size=(2, samples))
        return ratio((2 * one).tolist(), other.tolist())

    share = sum(interval.low <= 2 <= interval.high for interval in (drawn() for _ in range(400))) / 400
    assert CONFIDENCE - 0.02 <= share <= CONFIDENCE + 0.04


@given(one=SAMPLES, other=SAMPLES)
def test_a_ratio_lies_in_its_interval_and_between_the_extremes(one: list[float], other: list[float]) -> None:
    found = ratio(one, other)
    assert found.value == np.median(one) / np.median(other)
    assert min(one) / max(other) <= found.low <= found.high <= max(one) / min(other)
    assert ratio(one, other) == found


def test_a_ratio_of_constants_is_sure() -> None:
    assert ratio([6.0, 6.0], [3.0]) == Interval(2.0, 2.0, 2.0)


def test_the_mean_of_ratios_is_geometric_and_needs_every_pair() -> None:
    assert mean_ratio([([4.0], [1.0]), ([1.0], [1.0])]).value == pytest.approx(2)


@given(pairs=st.lists(st.tuples(SAMPLES, SAMPLES), min_size=1, max_size=4))
def test_a_mean_of_ratios_lies_between_the_extremes_in_any_order_of_samples(
    pairs: list[tuple[list[float], list[float]]],
) -> None:
    found = mean_ratio(pairs)
    singles = [np.median(one) / np.median(other) for one, other in pairs]
    assert min(singles) * (1 - 1e-9) <= found.value <= max(singles) * (1 + 1e-9)
    assert found.low <= found.high
    assert mean_ratio([(one[::-1], sorted(other)) for one, other in pairs]) == found


def test_spread_is_half_the_interquartile_range_over_the_median() -> None:
    assert spread([8.0, 9.0, 10.0, 11.0, 12.0]) == pytest.approx(0.1)


@given(samples=SAMPLES, scale=st.floats(1e-3, 1e3))
def test_spread_has_no_unit(samples: list[float], scale: float) -> None:
    assert spread([scale * sample for sample in samples]) == pytest.approx(spread(samples), rel=1e-6, abs=1e-9)


def test_one_outlier_does_not_move_the_spread() -> None:
    quiet = [100.0 + i % 3 for i in range(30)]
    assert spread([*quiet, 1e6]) == pytest.approx(spread(quiet), rel=0.1)
