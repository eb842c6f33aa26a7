"""Medians over commits, separate for each machine, and the commits between which they change."""

from __future__ import annotations

import pytest
from records import ENVIRONMENT, TIMING, record

from moebench.results.record import Environment, Record, Status
from moebench.results.regression.history import Series, history

ELSEWHERE = ENVIRONMENT.model_copy(update={"device": "another CPU"})


def commit(number: int) -> str:
    return f"{number:040x}"


def measured(number: int, ns: float, *, environment: Environment = ENVIRONMENT, process: int = 0) -> Record:
    """Return records of a process at a commit, made on its own day."""
    return record(
        commit=commit(number),
        timing=TIMING.model_copy(update={"samples_ns": [ns, 0.9 * ns, 1.5 * ns]}),
        time=f"2026-03-{number + 1:02}T10:00:{process:02}+00:00",
        environment=environment,
    )


def only(series: list[Series]) -> Series:
    (one,) = series
    return one


def test_a_commit_has_the_median_of_its_processes() -> None:
    found = only(history([measured(1, ns, process=process) for process, ns in enumerate((10.0, 30.0, 20.0))]))
    (one,) = found.measured
    assert (one.commit, one.ns, one.processes) == (commit(1), 20.0, 3)
    assert one.time == "2026-03-02T10:00:00+00:00"


def test_commits_stand_in_the_order_in_which_they_were_measured() -> None:
    found = only(history([measured(number, 10.0) for number in (3, 1, 2)]))
    assert [one.commit for one in found.measured] == [commit(1), commit(2), commit(3)]


def test_machines_have_histories_of_their_own() -> None:
    found = history([measured(1, 10.0), measured(1, 20.0, environment=ELSEWHERE)])
    assert [(series.environment.device, series.measured[0].ns) for series in found] == [
        ("a CPU", 10.0),
        ("another CPU", 20.0),
    ]


def test_a_release_of_moebench_goes_on_with_the_same_history() -> None:
    newer = ENVIRONMENT.model_copy(update={"moebench": "9.0"})
    assert len(only(history([measured(1, 10.0), measured(2, 10.0, environment=newer)])).measured) == 2


@pytest.mark.parametrize("name", ["unknown", f"{commit(7)}-dirty"])
def test_what_names_no_commit_is_no_history(name: str) -> None:
    assert history([measured(1, 10.0).model_copy(update={"commit": name})]) == []


def test_what_did_not_pass_is_no_history() -> None:
    assert history([record(status=Status.crashed, reason="SIGSEGV", timing=None, commit=commit(1))]) == []


def test_a_change_names_the_commits_around_it_and_by_how_much() -> None:
    """Slower by a quarter from the eleventh commit on, in noise of a percent."""
    wiggle = (1.0, 1.01, 0.99, 1.005, 0.995, 1.0, 1.01, 0.99, 1.0, 1.0)
    records = [measured(n, (10.0 if n < 10 else 12.5) * wiggle[n % 10]) for n in range(20)]
    (change,) = only(history(records)).changes
    assert (change.last_before, change.first_after) == (commit(9), commit(10))
    assert change.ratio == pytest.approx(1.25)
    assert change.p <= 0.01
