"""Comparison pair by pair: exact for equal sides, unaffected by what slows both, undecided with few pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from moebench.results.regression.paired_difference import (
    FEWEST,
    UNSEEN_NOISE,
    Difference,
    Times,
    difference_of_few,
    log_ratio,
)
from moebench.results.regression.paired_difference import difference as difference_of_pairs
from moebench.results.stats import CONFIDENCE

TIMES = st.floats(1e-3, 1e12)


def difference(old: Times, new: Times) -> Difference:
    """Return the difference of two sides whose processes have one sample each."""
    return difference_of_pairs([log_ratio([one], [other]) for one, other in zip(old, new, strict=True)])


@given(data=st.data(), pairs=st.integers(1, 20))
def test_chances_are_those_of_signed_ranks(data: st.DataObject, pairs: int) -> None:
    old, new = (data.draw(st.lists(TIMES, min_size=pairs, max_size=pairs)) for _ in range(2))
    logs = np.log(new) - np.log(old)
    if len(set(np.abs(logs))) < pairs or 0 in logs:
        return  # ties have no exact distribution
    found = difference(old, new)
    assert found.p_slower == pytest.approx(wilcoxon(logs, alternative="greater", method="exact").pvalue)
    assert found.p_faster == pytest.approx(wilcoxon(logs, alternative="less", method="exact").pvalue)


@given(data=st.data(), processes=st.integers(1, 20))
def test_swapped_sides_give_the_inverse(data: st.DataObject, processes: int) -> None:
    old, new = (data.draw(st.lists(TIMES, min_size=processes, max_size=processes)) for _ in range(2))
    there, back = difference(old, new), difference(new, old)
    assert there.ratio.value == pytest.approx(1 / back.ratio.value)
    assert (there.p_slower, there.p_faster) == pytest.approx((back.p_faster, back.p_slower))
    assert there.ratio.low <= there.ratio.value <= there.ratio.high
    if processes >= FEWEST:
        assert (there.ratio.low, there.ratio.high) == pytest.approx((1 / back.ratio.high, 1 / back.ratio.low))


@given(times=st.lists(TIMES, min_size=1, max_size=20))
def test_equal_times_are_no_difference(times: list[float]) -> None:
    found = difference(times, times)
    assert found.ratio.value == pytest.approx(1)
    assert min(found.p_slower, found.p_faster) >= 0.5


@pytest.mark.parametrize("processes", [8, 24])
def test_chance_is_as_large_as_it_is_said_to_be_and_the_interval_holds(processes: int) -> None:
    """Over 2000 equal sides with noise that no formula knows: two modes, and outliers."""
    generator = np.random.default_rng(processes)

    def times() -> NDArray[np.float64]:
        modes, outliers = generator.integers(0, 2, processes), generator.random(processes) < 1 / 20
        drawn: NDArray[np.float64] = np.exp(generator.normal(0, 0.01, processes) + 0.04 * modes + 0.3 * outliers)
        return drawn

    found = [difference(times(), 1.03 * times()) for _ in range(2000)]
    held = np.mean([one.ratio.low <= 1.03 <= one.ratio.high for one in found])
    assert CONFIDENCE - 0.01 <= held <= CONFIDENCE + 0.03
    alarms = [difference(times(), times()).p_slower for _ in range(2000)]
    for level in (0.01, 0.05):
        assert np.mean(np.array(alarms) <= level) <= level + 2 * math.sqrt(level / 2000)


def test_what_slows_both_hides_nothing_and_makes_nothing_up() -> None:
    """The machine is now fast, now half as fast: between equal sides, and with 3 % between them."""
    generator = np.random.default_rng(0)
    machine = generator.choice([1.0, 1.5], 16)
    old, new = (machine * np.exp(generator.normal(0, 0.004, 16)) for _ in range(2))
    equal, slower = difference(old, new), difference(old, 1.03 * new)
    assert min(equal.p_slower, equal.p_faster) > 0.05
    assert slower.p_slower < 0.001
    assert slower.ratio.value == pytest.approx(1.03, abs=0.005)


def test_samples_are_compared_with_those_next_to_them() -> None:
    """A machine that slows down by half in the middle of a pair, where one side has three samples more than the other.

    Their medians differ by half; samples taken at the same time do not differ.
    """
    machine = np.repeat([1.0, 1.5], [14, 16])
    assert log_ratio(machine, machine[:-3]) == pytest.approx(0)
    assert np.median(machine) / np.median(machine[:-3]) == pytest.approx(1.5)
    assert log_ratio(machine, 1.03 * machine) == pytest.approx(math.log(1.03))
    assert log_ratio(1.03 * machine, machine) == pytest.approx(-math.log(1.03))


def test_too_few_pairs_have_no_interval() -> None:
    found = difference([1.0] * (FEWEST - 1), [2.0] * (FEWEST - 1))
    assert (found.ratio.low, found.ratio.high) == (0.0, math.inf)
    assert difference([1.0] * FEWEST, [2.0] * FEWEST).ratio.low > 0


def test_one_process_a_side_tells_only_what_their_unseen_noise_cannot() -> None:
    """However many samples they have: twice as slow is slower, a fifth slower may be chance."""
    samples = np.random.default_rng(0).normal(100, 0.1, 1000)
    twice, fifth = (difference_of_few([samples.tolist()], [(times * samples).tolist()]) for times in (2.0, 1.2))
    assert twice.p_slower < 1e-5
    assert 0.05 < fifth.p_slower < 0.15
    assert fifth.ratio.value == pytest.approx(1.2)
    assert math.log(fifth.ratio.high / fifth.ratio.low) == pytest.approx(
        2 * 1.96 * math.sqrt(2) * UNSEEN_NOISE, rel=0.01
    )


def test_noisy_samples_widen_what_few_processes_tell() -> None:
    generator = np.random.default_rng(0)
    quiet, noisy = ([generator.normal(100, sigma, 12).tolist() for _ in range(2)] for sigma in (0.1, 40))
    narrow, wide = difference_of_few(quiet[:1], quiet[1:]).ratio, difference_of_few(noisy[:1], noisy[1:]).ratio
    assert wide.high / wide.low > 1.3 * narrow.high / narrow.low
