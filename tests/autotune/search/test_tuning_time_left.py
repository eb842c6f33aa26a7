"""The time that a tuning run still takes, on a recorded one and where searches end early."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from moebench.autotune.search.tuning_plan import TuningPlan
from moebench.autotune.search.tuning_time_left import TuningTimeLeft
from moebench.kernels.problem import Problem
from moebench.results.record import Record, Stage
from moebench.results.record.store import load

RECORDED = Path(__file__).parents[3] / "results" / "recorded" / "cpu-tuned.jsonl"


@pytest.fixture(scope="module")
def tasks() -> list[tuple[Stage, Problem, list[Record]]]:
    """Return the tasks of the recorded run: records that were measured in the same rounds."""

    def place(record: Record) -> tuple[object, ...]:
        return record.point.stage, record.key, record.point.batch

    groups = [list(group) for _, group in groupby(load(RECORDED).records, key=place)]
    return [(group[0].point.stage or "search", Problem(**group[0].problem), group) for group in groups]  # type: ignore[arg-type]


@pytest.fixture
def plan(tasks: list[tuple[Stage, Problem, list[Record]]]) -> TuningPlan:
    """Return the plan of the recorded run."""

    def problems(stage: Stage) -> Iterator[Problem]:
        return (problem for of, problem, _ in tasks if of == stage)

    return TuningPlan(
        kernel="scatter",
        source="",
        problems=tuple(problems("final")),
        held_out=tuple(problems("held-out")),
        loads=("zipf:1.2", "hot"),
        strategy="model",
        trials=20,
        seconds=float("inf"),
        quoted_s=1.0,
        hang_s=60.0,
    )


def opened(plan: TuningPlan, held: int = 0) -> TuningTimeLeft:
    return TuningTimeLeft(plan, dict.fromkeys(plan.searched, 99), dict.fromkeys(plan.searched, held))


def took(records: list[Record]) -> float:
    return sum(record.wall_s for record in records)


def test_the_estimate_stays_between_half_and_double_of_the_truth(
    tasks: list[tuple[Stage, Problem, list[Record]]], plan: TuningPlan
) -> None:
    left, truth, shares = opened(plan), sum(took(records) for *_, records in tasks), []
    for stage, problem, records in tasks[:-1]:
        left.finished(stage, problem, records, took(records))
        truth -= took(records)
        shares.append(left.share_done)
        assert truth / 2 < left.seconds < truth * 2
    assert shares == sorted(shares)
    left.finished(*tasks[-1], took(tasks[-1][2]))
    assert left.seconds == 0
    assert left.share_done == 1


def test_a_search_that_ends_early_or_is_held_already_counts_no_more(
    tasks: list[tuple[Stage, Problem, list[Record]]], plan: TuningPlan
) -> None:
    stage, problem, records = tasks[0]
    whole, resumed = opened(plan), opened(plan, held=20)
    for one in (whole, resumed):
        one.finished(stage, problem, records, took(records))
    assert resumed.seconds < whole.seconds
    before = whole.seconds
    later = next(index for index, (_, other, _) in enumerate(tasks) if other != problem)
    whole.finished(*tasks[later], took(tasks[later][2]))
    assert whole.seconds < before - took(records)  # four tasks of the first search are not awaited any more


def test_ctrl_c_leaves_the_comparison_of_what_was_searched(
    tasks: list[tuple[Stage, Problem, list[Record]]], plan: TuningPlan
) -> None:
    left = opened(plan)
    stage, problem, records = tasks[0]
    left.stop_searching([problem])  # in the middle of the first task
    left.finished(stage, problem, records, took(records))
    comparisons = [took(of) for other, at, of in tasks if other in ("final", "cross") and at.T == problem.T]
    assert sum(comparisons) / 2 < left.seconds < sum(comparisons) * 2


def test_seconds_of_the_plan_bound_the_searches(
    tasks: list[tuple[Stage, Problem, list[Record]]], plan: TuningPlan
) -> None:
    stage, problem, records = tasks[0]
    hasty = TuningPlan(**{**vars(plan), "seconds": took(records)})
    left, unlimited = opened(hasty), opened(plan)
    for one in (left, unlimited):
        one.finished(stage, problem, records, took(records))
    assert left.seconds < unlimited.seconds
