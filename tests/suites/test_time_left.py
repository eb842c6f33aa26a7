"""Time left of a run: the estimate follows what competitors cost, and neither halves nor doubles on the way."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from small_tasks import PROBLEM, task

from moebench.execution.trial.task import Task
from moebench.results.record.store import load
from moebench.suites.time_left import TimeLeft

RECORDED = Path(__file__).parents[2] / "results" / "recorded"


def of(competitors: int) -> Task:
    return task(*["loop"] * competitors)


def totals(schedule: list[tuple[Task, float]]) -> list[float]:
    """Return the seconds of the whole run as estimated after each task but the last."""
    left, spent, found = TimeLeft([one for one, _ in schedule]), 0.0, []
    left.started(0.0)
    for one, seconds in schedule[:-1]:
        left.finished(one, seconds)
        spent += seconds
        found.append(spent + left.seconds(1))
    return found


def test_tasks_with_few_and_many_competitors_do_not_move_it() -> None:
    chance = random.Random(0)  # noqa: S311  # a schedule, not a secret
    schedule = [(of(count), count * chance.uniform(2, 4)) for count in (1, 12, 2, 8, 8, 1, 1, 12, 3, 6) * 4]
    later = totals(schedule)[len(schedule) // 10 :]
    assert max(later) < 1.3 * min(later)


@pytest.mark.parametrize("name", ["cpu-main", "cpu-peers"])
def test_on_recorded_runs_it_neither_halves_nor_doubles(name: str) -> None:
    seconds: dict[tuple[str, str, str, str], list[float]] = {}
    for record in load(RECORDED / f"{name}.jsonl").records:
        place = (record.point.suite, record.point.series, str(record.point.x), record.key.partition(".K")[2])
        seconds.setdefault(place, []).append(record.wall_s)
    found = totals([(of(len(walls)), sum(walls)) for walls in seconds.values()])
    later = found[len(found) // 10 :]
    assert max(later) < 2 * min(later)


def test_a_start_of_workers_for_other_ranks_is_expected() -> None:
    both = [of(1), task("loop", problem=PROBLEM.replace(ranks=2))]
    left = TimeLeft(both)
    left.started(7.0)
    left.finished(both[0], 3.0)
    assert left.seconds(1) == 7.0 + 3.0
    assert left.share_done == 0.5
