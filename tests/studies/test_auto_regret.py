"""On the recorded runs the cost model's choice is near the best, at the rates measured then and at estimated ones."""

from __future__ import annotations

from functools import cache

import pytest
from auto_regret import RECORDED, RECORDED_RATES, Decision, decisions, near

from moebench.results.record.store import load_all


@cache
def found(name: str, at: str = RECORDED_RATES) -> list[Decision]:
    return decisions(load_all([RECORDED / name]).records, at)


@pytest.mark.parametrize("at", [RECORDED_RATES, "--estimated"], ids=["measured", "estimated"])
@pytest.mark.parametrize("name", ["cpu-peers.jsonl", "cpu-peers-zen4.jsonl"])
def test_of_the_points_of_peers_the_choice_is_within_15_percent_at_19_of_20(name: str, at: str) -> None:
    points = found(name, at)
    assert len(points) == 20
    assert near(points) >= 19
    assert max(one.regret for one in points) < 0.2


@pytest.mark.parametrize("at", [RECORDED_RATES, "--estimated"], ids=["measured", "estimated"])
def test_it_is_near_at_18_of_18_points_of_the_main_job_too(at: str) -> None:
    """These have capacities, training, many and few experts, and played no part in fitting."""
    points = found("cpu-main.jsonl", at)
    assert {one.problem.mode for one in points} == {"forward", "train"}
    assert {one.problem.capacity_factor is None for one in points} == {True, False}
    assert len(points) == 18
    assert near(points) == 18


def test_predictions_are_times_and_no_mere_ranks() -> None:
    """Nine tenths of those of kernels that are ever the fastest are within a third of what was measured."""
    points = [one for name in ("cpu-peers.jsonl", "cpu-main.jsonl") for one in found(name)]
    winners = {one.best.kernel for one in points}
    ratios = [one.predicted_ms / one.ms for point in points for one in point.measured if one.kernel in winners]
    assert sum(2 / 3 < ratio < 4 / 3 for ratio in ratios) >= 0.9 * len(ratios)
