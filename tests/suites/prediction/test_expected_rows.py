"""The rows of the busiest rank: the median of the largest of many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.suites.prediction.expected_rows import RowDistribution

DRAWS = 40_000
MEANS = st.lists(st.floats(0, 1e9), min_size=1, max_size=20)


def sampled(amount: RowDistribution, copies: int) -> float:
    rng = np.random.default_rng(0)
    deviation_R = np.sqrt(np.tile(amount.variance_R, copies))
    largest = rng.normal(np.tile(amount.mean_R, copies), deviation_R, size=(DRAWS, len(deviation_R))).max(1)
    return float(np.median(largest))


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("deviations", [[3.0] * 8, [1.0, 20.0, 0.0, 5.0], [0.0, 0.0, 40.0]])
def test_it_is_the_median_of_the_largest_draw(deviations: list[float], copies: int) -> None:
    amount = RowDistribution(mean_R=np.linspace(90, 110, len(deviations)), variance_R=np.array(deviations) ** 2)
    # A median of n draws strays by 1.25 deviations over √n.
    assert amount.largest(copies) == pytest.approx(sampled(amount, copies), abs=5 * 1.25 * 40 / DRAWS**0.5)


def test_one_rank_has_its_mean_and_two_equal_ones_more() -> None:
    one = RowDistribution(mean_R=np.array([50.0]), variance_R=np.array([16.0]))
    assert one.largest() == pytest.approx(50)
    assert one.largest(2) == pytest.approx(50 + 4 * 0.5449521)  # Φ(0.54495)² = 1/2


@given(means=MEANS, copies=st.integers(1, 65_536))
def test_without_variance_it_is_the_largest_mean(means: list[float], copies: int) -> None:
    assert RowDistribution.fixed(np.array(means)).largest(copies) == max(means)


@given(means=MEANS, deviation=st.floats(1e-3, 1e6), copies=st.integers(1, 10_000))
def test_more_copies_make_it_larger_and_scaling_scales_it(means: list[float], deviation: float, copies: int) -> None:
    amount = RowDistribution(mean_R=np.array(means), variance_R=np.full(len(means), deviation**2))
    assert max(means) <= amount.largest(copies) <= amount.largest(2 * copies)
    assert amount.scaled(3).largest(copies) == pytest.approx(3 * amount.largest(copies), rel=1e-9)


def test_totals_of_nodes_add_means_and_variances() -> None:
    amount = RowDistribution(mean_R=np.array([1.0, 2.0, 3.0]), variance_R=np.array([0.1, 0.2, 0.3]))
    nodes = amount.summed(np.array([0, 0, 1]))
    np.testing.assert_allclose((nodes.mean_R, nodes.variance_R), ([3, 3], [0.3, 0.3]))
    np.testing.assert_allclose(nodes.repeated(2).variance_R, [0.6, 0.6])
