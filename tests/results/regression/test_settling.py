"""Commands that settle what is unclear: the gate where two commits are known, else measuring both sides again."""

from __future__ import annotations

import shlex

from records import record

from moebench.results.record import Record
from moebench.results.regression.settling import settling
from moebench.results.regression.verdicts import compare

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
    assert f"in a checkout of {NEW[:12]}" in said


def test_sources_that_no_commit_has_are_measured_again() -> None:
    for old, new in ((OLD, OLD), (OLD, f"{NEW}-dirty"), ("unknown", NEW)):
        said = remedy(one(1, old), one(1.1, new))
        assert "moebench gate" not in said
        assert "for n in 1 2 3 4 5 6; do moebench run" in said


def test_names_cannot_run_anything() -> None:
    said = remedy(one(1, OLD, "a;rm -rf $HOME"), one(1.1, NEW, "a;rm -rf $HOME"))
    command = said.split("`")[1]
    assert shlex.split(command)[-1] == "a;rm -rf $HOME"


def test_nothing_unclear_needs_no_command() -> None:
    assert settling([], [], []) is None
