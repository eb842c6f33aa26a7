"""The recorded study of predictions has the errors and the ranking that docs/parallel.md states."""

from __future__ import annotations

from statistics import median

import pytest
from network_points import DISPATCHERS, SUITE, TOKENS, add_to_plan, points
from network_study import LINES, RECORDED, PredictedPair, ranked, recorded, table

from moebench.results.record.store import load
from moebench.suites import plan


def pair(dispatcher: str, measured: float, predicted: float) -> PredictedPair:
    return PredictedPair("a link", 32, dispatcher, measured, predicted)


def test_predictions_are_within_15_percent_in_the_median_and_30_at_worst() -> None:
    errors = [abs(one.error) for one in recorded()]
    assert len(errors) == 4 * len(LINES) * len(TOKENS)
    assert median(errors) <= 0.15
    assert max(errors) <= 0.30


def test_nine_pairs_of_ten_that_differ_by_a_tenth_are_ranked_right() -> None:
    right = list(ranked(recorded()))
    assert len(right) >= 24
    assert sum(right) >= 0.9 * len(right)


def test_only_pairs_that_differ_clearly_are_ranked() -> None:
    assert list(ranked([pair("a", 1.0, 2.0), pair("b", 1.05, 1.0)])) == []
    assert list(ranked([pair("a", 1.0, 2.0), pair("b", 1.2, 3.0)])) == [True]
    assert list(ranked([pair("a", 1.0, 2.0), pair("b", 1.2, 1.0)])) == [False]


def test_the_table_ends_with_how_near_it_came() -> None:
    *_, said = table(recorded())
    assert said.startswith(f"{4 * len(LINES) * len(TOKENS)} points; off by ")


def test_the_program_plans_its_points_and_the_records_are_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("chosen", "_task"):
        monkeypatch.setattr(plan, name, getattr(plan, name))  # put back afterwards
    add_to_plan("a link", ranks=4)
    found = plan.plan([SUITE], size="small", device_type="cpu", configs="default").tasks
    assert [task.problem.T for task in found] == [4 * tokens for tokens in TOKENS]
    assert {one.kernel for task in found for one in task.competitors} == set(DISPATCHERS)
    with pytest.raises(SystemExit, match="runs network, not smoke"):
        plan.plan(["smoke"], size="small", device_type="cpu", configs="default")
    label = points("a link", 4)[0].point
    for record in load(RECORDED / "network.jsonl").records:
        assert (record.point.question, record.point.axis) == (label.question, label.axis)
