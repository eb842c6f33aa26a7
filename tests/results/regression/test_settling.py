"""Commands that settle what is unclear: the gate where two commits are known, else measuring both sides again."""

from __future__ import annotations

import shlex

import pytest
from records import record

from moebench.results.record import Record
from moebench.results.regression.paired_difference import difference
from moebench.results.regression.settling import settling
from moebench.results.regression.verdicts import Outcome, compare, decide, enough_processes

OLD, NEW = "0" * 40, "1" * 40


def one(ms: float, commit: str, kernel: str = "scatter") -> Record:
    timing = record().timing
    assert timing is not None
    slow = timing.model_copy(update={"samples_ns": [1e6 * ms] * 9})
    return record(kernel=kernel, commit=commit, timing=slow)


def remedy(old: Record, new: Record) -> str:
    return str(settling([old], [new], compare([old], [new])))


def test_two_commits_are_settled_by_the_gate() -> None:
    said = remedy(one(1, OLD), one(1.1, NEW))
    assert f"`moebench gate {record().point.suite} --base {OLD[:12]} -k scatter`" in said
    assert f"with the options of the runs that are compared, in a checkout of {NEW[:12]}" in said


def test_sources_that_no_commit_has_are_measured_again() -> None:
    for old, new in ((OLD, OLD), (OLD, f"{NEW}-dirty"), ("unknown", NEW)):
        said = remedy(one(1, old), one(1.1, new))
        assert "moebench gate" not in said
        assert "for n in $(seq 7); do moebench run" in said


def test_names_cannot_run_anything() -> None:
    said = remedy(one(1, OLD, "a;rm -rf $HOME"), one(1.1, NEW, "a;rm -rf $HOME"))
    command = said.split("`")[1]
    assert shlex.split(command)[-1] == "a;rm -rf $HOME"


def test_nothing_unclear_needs_no_command() -> None:
    assert settling([], [], []) is None


def test_points_of_a_tuning_run_are_in_no_suite_and_have_no_command() -> None:
    old, new = (
        one(ms, commit).model_copy(
            update={"point": record().point.model_copy(update={"suite": "tune", "stage": "search", "batch": 1})}
        )
        for ms, commit in ((1, OLD), (1.1, NEW))
    )
    verdicts = compare([old], [new])
    assert [verdict.status for verdict in verdicts] == [Outcome.unclear]
    assert settling([old], [new], verdicts) is None


@pytest.mark.parametrize("points", [1, 2, 20, 1000])
def test_the_processes_that_it_asks_for_show_one_slow_point_among_all(points: int) -> None:
    asked = enough_processes(points)
    equal = difference([(-1) ** at * 0.001 for at in range(asked)])

    def standing(processes: int) -> Outcome:
        slow = difference([0.1 + at / 1e4 for at in range(processes)])
        return decide([slow, *[equal] * (points - 1)])[0]

    assert standing(asked) is Outcome.slower
    assert standing(asked - 1) is Outcome.unclear


def test_too_few_processes_for_so_many_points_are_said() -> None:
    def side(ms: float) -> list[Record]:
        return [
            one(ms * (1 + at / 1e4), OLD, f"kernel {number}").model_copy(update={"time": f"2026-03-01T10:00:0{at}Z"})
            for number in range(3)
            for at in range(6)
        ]

    old, new = side(1), side(1.2)
    verdicts = compare(old, new)
    assert {(verdict.status, verdict.reason) for verdict in verdicts} == {
        (Outcome.unclear, "6 processes a side: among so many points 9 can tell")
    }
    assert "for n in $(seq 9); do" in str(settling(old, new, verdicts))
