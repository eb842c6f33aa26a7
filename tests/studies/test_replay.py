"""Replayed searches see the score of the first samples of a configuration, and are judged by all of its samples."""

from __future__ import annotations

import numpy as np
import pytest
from records import record
from replay import Study
from search_records import measured, ramp

from moebench.autotune.search.recorded_sweep import MeasuredPair, RecordedSweep, recorded_sweeps
from moebench.autotune.search.space import Space
from moebench.autotune.search.strategy import FULL_SAMPLES, STRATEGIES


def test_a_study_follows_the_regret_of_the_best_after_each_trial() -> None:
    study = Study.of("exhaustive", ramp(11), seeds=2, trials=12)
    expected = [(100 - fastest) / 90 - 1 for fastest in range(1, 11)]
    np.testing.assert_allclose(study.regrets_SN, [[*expected, 0.0, 0.0]] * 2)


def test_regret_after_a_share_is_the_median_and_the_worst_of_the_seeds() -> None:
    regrets = np.array([[0.3, 0.2], [0.5, 0.1], [0.9, 0.4]])
    study = Study(strategy="random", sweep=ramp(20), regrets_SN=regrets)
    after = study.after(0.1)
    assert (after.trials, after.median, after.worst) == (2, 0.2, 0.4)
    assert study.after(0.01).median == 0.5
    assert study.after(0.01).trials == 1


def test_a_search_sees_the_first_samples_and_is_judged_by_all() -> None:
    """A configuration that looks fast by its first samples and is slow by all of them misleads the search."""
    deceptive = MeasuredPair([1.0] * FULL_SAMPLES + [9.0] * 100, [2.0] * FULL_SAMPLES + [3.0] * 100)
    space = Space.among("scatter", [{"tile": tile} for tile in range(3)])
    sweep = RecordedSweep(
        space=space,
        default=record(),
        pairs=((MeasuredPair([2.0], [2.0]),), (MeasuredPair([3.0], [4.0]),), (deceptive,)),
    )
    assert Study.of("exhaustive", sweep, seeds=1, trials=2).regrets_SN.tolist() == [[0.0, 3.0]]


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_every_strategy_can_be_studied_on_records(name: str) -> None:
    """Each strategy ends with a regret of 0 on records in shuffled batches, and twice in the same way."""
    tiles = np.random.default_rng(0).permutation(np.arange(1, 30)).tolist()
    records = []
    for number in range(0, 29, 4):
        drift = 1 + number
        records.append(measured(number, 0, [100.0 * drift] * FULL_SAMPLES))
        records += [
            measured(number, tile, None if tile == 7 else [(100.0 + abs(tile - 20) - 10) * drift] * FULL_SAMPLES)
            for tile in tiles[number : number + 4]
        ]
    (sweep,) = recorded_sweeps(records)
    studies = [Study.of(name, sweep, seeds=3, trials=60) for _ in range(2)]
    assert studies[0].after(1.0).trials == 30
    assert studies[0].regrets_SN[:, -1].tolist() == [0.0, 0.0, 0.0]
    assert studies[0].regrets_SN[:, 0].min() > 0
    np.testing.assert_array_equal(studies[0].regrets_SN, studies[1].regrets_SN)
