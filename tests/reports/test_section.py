"""Records are compared within one suite on one machine, each trial once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moebench.reports.section import machines, period, sections
from moebench.results.record import Environment, Record, Timing

Make = Callable[..., Record]


def test_machines_are_never_mixed(make: Make, cpu: Environment) -> None:
    found = sections([make("a"), make("b", environment=cpu), make("c"), make("a", suite="other")])
    assert [(section.suite, section.kernels) for section in found] == [
        ("tokens", ["a", "c"]),
        ("tokens", ["b"]),
        ("other", ["a"]),
    ]
    assert found[0].machine.label != found[1].machine.label


def test_the_number_of_threads_makes_no_other_machine(make: Make, cpu: Environment) -> None:
    fewer = cpu.model_copy(update={"threads": 1})
    (machine,) = machines([make(environment=cpu), make(environment=fewer)])
    assert ("threads", "1, 8") in machine.facts


def test_the_latest_record_of_a_trial_counts_and_the_page_says_so(make: Make) -> None:
    early, late = make(ms=2.0, time="2026-03-01T10:00:00Z"), make(ms=1.0, time="2026-03-02T10:00:00Z")
    for records in ([early, late], [late, early]):
        (section,) = sections(records)
        assert section.records == [late]
        assert any("1 earlier record " in note for note in section.notes)


def test_equal_problems_at_two_places_are_two_trials(make: Make) -> None:
    (section,) = sections([make(x=1.0), make(x="dropless")])
    assert len(section.rows) == 2


@pytest.mark.parametrize(
    ("update", "note"),
    [
        ({"throttled": 3}, "3 samples taken while the device was throttled were left out."),
        ({"disturbed": 3}, "3 samples taken while others used the host's cores were left out."),
        ({"clock": "perf_counter"}, "Whether others used the host's cores was not watched for 1 record."),
    ],
)
def test_dropped_samples_are_mentioned(make: Make, update: dict[str, object], note: str) -> None:
    record = make()
    timing = record.timing
    assert isinstance(timing, Timing)
    assert note not in sections([record])[0].notes
    (section,) = sections([record.model_copy(update={"timing": timing.model_copy(update=update)})])
    assert note in section.notes


def test_a_period_goes_from_the_first_to_the_last_record(make: Make) -> None:
    records = [make(time="2026-03-02T10:00:00Z"), make(time="2026-03-01T09:30:59Z")]
    assert period(records) == "2026-03-01 09:30 to 2026-03-02 10:00"


def test_trials_of_a_search_are_named_as_such(make: Make) -> None:
    trial = make()
    searched = trial.model_copy(update={"point": trial.point.model_copy(update={"stage": "search", "batch": 1})})
    (section,) = sections([searched])
    assert "`moebench tables build` derives" in section.notes[0]
    (section,) = sections([trial])
    assert "trials of a search" not in "".join(section.notes)
