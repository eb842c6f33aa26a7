"""Sweeps are read back as they were measured, and a search of one is judged by what is true of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from records import TIMING, record

from moebench.autotune.search.replay import Pair, Study, Sweep, pruning, sweeps
from moebench.autotune.search.space import Space
from moebench.autotune.search.strategy import FULL_SAMPLES, STRATEGIES
from moebench.kernels.problem import InvalidProblem, Problem
from moebench.results.record import Point, Record, Status

PROBLEM = Problem(T=64, D=16, F=32, E=4, K=2)


def measured(batch: int, tile: int, samples_ns: Sequence[float] | None, **changes: Any) -> Record:
    """A record of the tuner's; without samples, of a crash."""
    point = Point(
        suite="tune", question="?", axis="tokens T", series="", x=64, baseline="scatter", stage="search", batch=batch
    )
    fields: dict[str, Any] = {
        "point": point,
        "kernel": "scatter",
        "key": PROBLEM.key,
        "problem": dataclasses.asdict(PROBLEM),
        "config": {"tile": tile},
        "timing": None,
    }
    if samples_ns is None:
        fields |= {"status": Status.crashed, "reason": "it died"}
    else:
        fields["timing"] = TIMING.model_copy(update={"samples_ns": list(samples_ns)})
    return record(**fields | changes)


SEARCH = [
    measured(1, 64, [10.0, 10.0, 40.0, 40.0, 40.0]),
    measured(1, 16, [20.0, 20.0, 20.0, 20.0, 20.0]),
    measured(1, 32, None),
    measured(2, 64, [5.0, 5.0, 5.0]),
    measured(2, 128, [4.0, 4.0, 4.0]),
]


def ramp(count: int, failed: Sequence[int] = ()) -> Sweep:
    """A sweep of a line of configurations, each a hundredth faster than the one before it."""
    own = [() if index in failed else (Pair([100.0 - index], [100.0]),) for index in range(count)]
    space = Space.among("scatter", [{"tile": index} for index in range(count)])
    return Sweep(space=space, default=record(), pairs=tuple(own))


def test_a_sweep_holds_every_configuration_the_one_in_each_batch_first() -> None:
    (sweep,) = sweeps(SEARCH[1:2] + SEARCH[:1] + SEARCH[2:])
    assert [config["tile"] for config in sweep.space.configs] == [64, 16, 32, 128]
    assert (sweep.space.kernel, sweep.key, sweep.problem) == ("scatter", PROBLEM.key, PROBLEM)


def test_of_one_batch_the_first_is_the_default() -> None:
    (sweep,) = sweeps(SEARCH[:3])
    assert sweep.space.default == {"tile": 64}


def test_a_score_is_the_ratio_of_the_samples_in_one_batch() -> None:
    (sweep,) = sweeps(SEARCH)
    tiles = [config["tile"] for config in sweep.space.configs]
    assert sweep.told(tiles.index(16), 2) == 2.0
    assert sweep.told(tiles.index(16), 5) == sweep.score(tiles.index(16)) == 0.5
    assert sweep.score(tiles.index(128)) == 0.8, "beside the default of its own batch"
    assert sweep.told(tiles.index(32), 5) is None
    assert sweep.score(tiles.index(32)) == math.inf
    assert sweep.score(0) == 1.0


def test_of_several_measurements_the_first_is_told_and_the_median_judges() -> None:
    more = [
        *(measured(number, 64, [8.0]) for number in (3, 4)),
        *(measured(number, 128, [time]) for number, time in ((3, 2.0), (4, 80.0))),
        measured(4, 32, [4.0]),
    ]
    alone = [measured(9, 128, [1.0]), measured(8, 64, None), measured(8, 128, [1.0])]
    (sweep,) = sweeps(SEARCH + more + alone)
    tiles = [config["tile"] for config in sweep.space.configs]
    assert sweep.told(tiles.index(128), 1) == 0.8
    assert sweep.score(tiles.index(128)) == 0.8, "of 0.8, 0.25 and 10"
    assert sweep.score(tiles.index(32)) == 0.5, "it failed once and passed once"


def test_other_kernels_problems_and_suites_are_kept_apart() -> None:
    other = [
        measured(1, 64, [1.0], key="another"),
        measured(1, 64, [1.0], kernel="padded"),
        measured(1, 256, [1.0], point=record().point),
        measured(1, 256, None, status=Status.invalid),
    ]
    found = sweeps(SEARCH + other)
    assert [(sweep.space.kernel, sweep.key, len(sweep.space)) for sweep in found] == [
        ("scatter", PROBLEM.key, 4),
        ("scatter", "another", 1),
        ("padded", PROBLEM.key, 1),
    ]


def test_records_without_a_time_of_the_default_are_no_sweep() -> None:
    assert sweeps([measured(1, 64, None), measured(1, 16, [1.0])]) == []
    assert sweeps([]) == []


def test_a_problem_of_another_moebench_is_named() -> None:
    (sweep,) = sweeps([measured(1, 64, [1.0], problem={"T": 1, "tokens": 2}, key="old")])
    with pytest.raises(InvalidProblem, match="old is no problem of this moebench"):
        _ = sweep.problem


def test_regret_is_the_time_lost_to_the_fastest_that_did_not_fail() -> None:
    sweep = ramp(21, failed=[20])
    assert sweep.best == 19
    assert sweep.regret(19) == 0
    assert sweep.regret(0) == pytest.approx(100 / 81 - 1)
    assert sweep.regret(20) == math.inf


def test_pruning_is_the_share_that_has_to_be_kept() -> None:
    sweep = ramp(10)
    assert pruning(sweep, [10.0 - index for index in range(10)]) == 0.1
    assert pruning(sweep, [float(index) for index in range(10)]) == 1.0
    assert pruning(sweep, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0]) == 0.4, "of equals it comes last"
    with pytest.raises(ValueError, match="1 predictions for 10 configurations"):
        pruning(sweep, [1.0])


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


def test_what_is_told_is_what_so_few_samples_say_and_what_is_judged_is_the_truth() -> None:
    """A configuration that looks fast by its first samples and is slow by all of them misleads the search."""
    deceptive = Pair([1.0] * FULL_SAMPLES + [9.0] * 100, [2.0] * FULL_SAMPLES + [3.0] * 100)
    space = Space.among("scatter", [{"tile": tile} for tile in range(3)])
    sweep = Sweep(space=space, default=record(), pairs=((Pair([2.0], [2.0]),), (Pair([3.0], [4.0]),), (deceptive,)))
    assert Study.of("exhaustive", sweep, seeds=1, trials=2).regrets_SN.tolist() == [[0.0, 3.0]]


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_every_strategy_can_be_studied_on_records(name: str) -> None:
    """From records in shuffled batches to a regret of nothing, and again the same."""
    if name == "optuna_tpe":
        pytest.importorskip("optuna")
    tiles = np.random.default_rng(0).permutation(np.arange(1, 30)).tolist()
    records = []
    for number in range(0, 29, 4):
        drift = 1 + number
        records.append(measured(number, 0, [100.0 * drift] * FULL_SAMPLES))
        records += [
            measured(number, tile, None if tile == 7 else [(100.0 + abs(tile - 20) - 10) * drift] * FULL_SAMPLES)
            for tile in tiles[number : number + 4]
        ]
    (sweep,) = sweeps(records)
    studies = [Study.of(name, sweep, seeds=3, trials=60) for _ in range(2)]
    assert studies[0].after(1.0).trials == 30
    assert studies[0].regrets_SN[:, -1].tolist() == [0.0, 0.0, 0.0]
    assert studies[0].regrets_SN[:, 0].min() > 0
    np.testing.assert_array_equal(studies[0].regrets_SN, studies[1].regrets_SN)
