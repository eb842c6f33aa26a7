"""The surrogate learns the effects of axes, its uncertainty is calibrated, and so is the expected improvement."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from moebench.autotune.search.surrogate import Observations, Surrogate, expected_improvement

GRID = np.array(list(itertools.product(np.linspace(0, 1, 5), np.linspace(0, 1, 4), (0.0, 1.0))))
ORDERED = [True, True, False]
EVERYWHERE = np.arange(len(GRID))
SEEN = np.random.default_rng(0).permutation(len(GRID))[:16]


def effects() -> NDArray[np.float64]:
    """Return log times on the grid: each axis has an effect, and two of them interact."""
    x, y, z = GRID.T
    return np.asarray(0.4 * (x - 0.6) ** 2 - 0.3 * y + 0.2 * z + 0.1 * y * z)


def exact(y_N: NDArray[np.float64], seen: NDArray[np.int64]) -> Observations:
    return Observations(seen, y_N[seen], np.zeros(len(seen)))


def test_a_measurement_without_noise_is_believed_and_nothing_is_surer() -> None:
    mean, deviation = Surrogate(GRID, ORDERED, None).posterior(exact(effects(), SEEN), [])
    np.testing.assert_allclose(mean[SEEN], effects()[SEEN], atol=1e-4)
    assert deviation[SEEN].max() < 1e-3
    assert np.delete(deviation, SEEN).min() > 10 * deviation[SEEN].max()


def test_what_axes_do_is_told_from_less_than_half_of_the_space() -> None:
    mean, _ = Surrogate(GRID, ORDERED, None).posterior(exact(effects(), SEEN), [])
    assert np.abs(mean - effects()).max() < 0.2 * np.ptp(effects())


def test_what_it_does_not_know_is_as_far_off_as_it_says() -> None:
    """About 95 % lie within two deviations where axes have effects of 20 % and points deviate by 5 %."""
    generator = np.random.default_rng(1)
    inside = []
    for _ in range(30):
        y_N = generator.normal(0, 0.05, len(GRID))
        for places in (np.unique(x, return_inverse=True)[1] for x in GRID.T):
            y_N += generator.normal(0, 0.2, 5)[places]
        mean, deviation = Surrogate(GRID, ORDERED, None).posterior(exact(y_N, SEEN), [])
        unseen = np.setdiff1d(EVERYWHERE, SEEN)
        inside.append(np.mean(np.abs(mean - y_N)[unseen] < 2 * deviation[unseen]))
    assert 0.88 < np.mean(inside) < 0.99


def test_noise_is_smoothed_and_more_so_where_there_is_more_of_it() -> None:
    y_N = effects() + np.random.default_rng(2).normal(0, 0.05, len(GRID))
    plain = Surrogate(GRID, ORDERED, None)
    few = Observations(EVERYWHERE, y_N, np.full(len(GRID), 3.0))
    mean, deviation = plain.posterior(few, [])
    assert np.std(mean - effects()) < 0.6 * np.std(y_N - effects())
    noise = few.noise.copy()
    noise[7] = 300.0
    assert plain.posterior(Observations(EVERYWHERE, y_N, noise), [])[1][7] > deviation[7]


def test_predictions_carry_over_to_what_was_not_measured() -> None:
    """Only the prediction explains the times; the axes explain nothing."""
    y_N = np.random.default_rng(3).normal(0, 0.3, len(GRID))
    unseen = np.setdiff1d(EVERYWHERE, SEEN)
    errors = [
        np.std((Surrogate(GRID, ORDERED, trend).posterior(exact(y_N, SEEN), [])[0] - y_N)[unseen])
        for trend in (2 * y_N + 5, None)
    ]
    assert errors[0] < 0.2 * errors[1]


def test_words_have_no_order() -> None:
    """On an axis of words only equal values are related; on an axis of numbers the nearest are related most."""
    features = np.linspace(0, 1, 5)[:, None]
    seen = Observations(np.array([0, 1]), np.array([0.0, 0.3]), np.zeros(2))
    words, _ = Surrogate(features, [False], None).posterior(seen, [])
    numbers, _ = Surrogate(features, [True], None).posterior(seen, [])
    np.testing.assert_allclose(words[2:], words[2])
    assert numbers[2] > numbers[4] + 0.01


def test_what_is_pending_makes_its_surroundings_surer_and_moves_no_mean() -> None:
    surrogate, seen = Surrogate(GRID, ORDERED, None), exact(effects(), SEEN)
    mean, deviation = surrogate.posterior(seen, [])
    waiting = int(np.argmax(deviation))
    believed, surer = surrogate.posterior(seen, [waiting])
    np.testing.assert_allclose(believed, mean, atol=1e-9)
    assert surer[waiting] < 0.5 * deviation[waiting]
    assert (surer <= deviation + 1e-9).all()


def test_configurations_that_are_all_alike_do_not_break_it() -> None:
    mean, deviation = Surrogate(GRID, ORDERED, None).posterior(exact(np.zeros(len(GRID)), SEEN), [])
    assert np.abs(mean).max() < 1e-9
    assert np.isfinite(deviation).all()


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 0.1), (-0.2, 0.1), (0.3, 0.2), (0.1, 0.05)])
def test_expected_improvement_is_the_mean_gain(mean: float, deviation: float) -> None:
    quantiles = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    simulated = np.maximum(0.0 - (mean + deviation * quantiles), 0).mean()
    found = expected_improvement(0.0, np.array([mean]), np.array([deviation]))
    assert found[0] == pytest.approx(simulated, rel=1e-3, abs=1e-9)


def test_what_is_sure_promises_just_its_gain() -> None:
    found = expected_improvement(0.0, np.array([-0.2, 0.2]), np.zeros(2))
    assert found.tolist() == [0.2, 0.0]
