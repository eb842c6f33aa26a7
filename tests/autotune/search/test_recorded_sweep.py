"""Recorded sweeps are read back as they were measured."""

from __future__ import annotations

import math

import pytest
from records import record
from search_records import PROBLEM, measured, ramp

from moebench.autotune.search.recorded_sweep import recorded_sweeps
from moebench.kernels.problem import InvalidProblem
from moebench.results.record import Status

SEARCH = [
    measured(1, 64, [10.0, 10.0, 40.0, 40.0, 40.0]),
    measured(1, 16, [20.0, 20.0, 20.0, 20.0, 20.0]),
    measured(1, 32, None),
    measured(2, 64, [5.0, 5.0, 5.0]),
    measured(2, 128, [4.0, 4.0, 4.0]),
]


def test_a_sweep_holds_every_configuration_the_one_in_each_batch_first() -> None:
    (sweep,) = recorded_sweeps(SEARCH[1:2] + SEARCH[:1] + SEARCH[2:])
    assert [config["tile"] for config in sweep.space.configs] == [64, 16, 32, 128]
    assert (sweep.space.kernel, sweep.key, sweep.problem) == ("scatter", PROBLEM.key, PROBLEM)


def test_of_one_batch_the_first_is_the_default() -> None:
    (sweep,) = recorded_sweeps(SEARCH[:3])
    assert sweep.space.default == {"tile": 64}


def test_a_score_is_the_ratio_of_the_samples_in_one_batch() -> None:
    (sweep,) = recorded_sweeps(SEARCH)
    tiles = [config["tile"] for config in sweep.space.configs]
    assert sweep.pairs[tiles.index(16)][0].score(2) == 2.0
    assert sweep.pairs[tiles.index(16)][0].score(5) == sweep.score(tiles.index(16)) == 0.5
    assert sweep.score(tiles.index(128)) == 0.8, "beside the default of its own batch"
    assert sweep.pairs[tiles.index(32)] == ()
    assert sweep.score(tiles.index(32)) == math.inf
    assert sweep.score(0) == 1.0


def test_of_several_measurements_the_median_counts() -> None:
    more = [
        *(measured(number, 64, [8.0]) for number in (3, 4)),
        *(measured(number, 128, [time]) for number, time in ((3, 2.0), (4, 80.0))),
        measured(4, 32, [4.0]),
    ]
    alone = [measured(9, 128, [1.0]), measured(8, 64, None), measured(8, 128, [1.0])]
    (sweep,) = recorded_sweeps(SEARCH + more + alone)
    tiles = [config["tile"] for config in sweep.space.configs]
    assert sweep.pairs[tiles.index(128)][0].score() == 0.8
    assert sweep.score(tiles.index(128)) == 0.8, "of 0.8, 0.25 and 10"
    assert sweep.score(tiles.index(32)) == 0.5, "it failed once and passed once"


def test_other_kernels_problems_and_suites_are_kept_apart() -> None:
    other = [
        measured(1, 64, [1.0], key="another"),
        measured(1, 64, [1.0], kernel="padded"),
        measured(1, 256, [1.0], point=record().point),
        measured(1, 256, None, status=Status.invalid),
    ]
    found = recorded_sweeps(SEARCH + other)
    assert [(sweep.space.kernel, sweep.key, len(sweep.space)) for sweep in found] == [
        ("scatter", PROBLEM.key, 4),
        ("scatter", "another", 1),
        ("padded", PROBLEM.key, 1),
    ]


def test_records_without_a_time_of_the_default_are_no_sweep() -> None:
    assert recorded_sweeps([measured(1, 64, None), measured(1, 16, [1.0])]) == []
    assert recorded_sweeps([]) == []


def test_a_problem_of_another_moebench_is_named() -> None:
    (sweep,) = recorded_sweeps([measured(1, 64, [1.0], problem={"T": 1, "tokens": 2}, key="old")])
    with pytest.raises(InvalidProblem, match="old is no problem of this moebench"):
        _ = sweep.problem


def test_regret_is_the_time_lost_to_the_fastest_that_did_not_fail() -> None:
    sweep = ramp(21, failed=[20])
    assert sweep.best == 19
    assert sweep.regret(19) == 0
    assert sweep.regret(0) == pytest.approx(100 / 81 - 1)
    assert sweep.regret(20) == math.inf


def test_the_share_to_keep_holds_the_best() -> None:
    sweep = ramp(10)
    assert sweep.share_to_keep([10.0 - index for index in range(10)]) == 0.1
    assert sweep.share_to_keep([float(index) for index in range(10)]) == 1.0
    assert sweep.share_to_keep([1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0]) == 0.4, "of equals it comes last"
    with pytest.raises(ValueError, match="1 predictions for 10 configurations"):
        sweep.share_to_keep([1.0])
