"""Verdicts: points that became slower, that broke, or that cannot be judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import ENVIRONMENT, TIMING, record, records

from moebench.results.record import Clocks, Record, Status
from moebench.results.regression.paired_difference import Difference
from moebench.results.regression.verdicts import Outcome, Verdict, compare, decide
from moebench.results.stats import Interval


def processes(
    times: float = 1.0, *, count: int = 8, noise: float = 0.003, seed: int = 0, x: float = 1.0, **changes: Any
) -> list[Record]:
    """Return records of a point by ``count`` processes with a median of ``times`` ms."""
    generator = np.random.default_rng(seed)
    samples = 1e6 * times * np.exp(generator.normal(0, noise, (count, 1)) + generator.normal(0, 0.01, (count, 15)))
    made = [
        {"timing": TIMING.model_copy(update={"samples_ns": one.tolist()}), "time": f"2026-03-01T{at:03}"}
        for at, one in enumerate(samples)
    ]
    return [record(x, **(one | changes)) for one in made]


def rotated(records: Sequence[Record]) -> list[Record]:
    return [
        one.model_copy(update={"timing": one.timing and one.timing.model_copy(update={"cold": "rotated"})})
        for one in records
    ]


def failed(status: Status, reason: str = "no such luck", **changes: Any) -> Record:
    return record(status=status, reason=reason, timing=None, **changes)


def only(verdicts: Sequence[Verdict]) -> Verdict:
    (verdict,) = verdicts
    return verdict


@pytest.mark.parametrize(
    ("times", "status"),
    [(1.0, Outcome.same), (1.015, Outcome.same), (1.03, Outcome.slower), (0.97, Outcome.faster)],
)
def test_a_difference_counts_from_the_floor_on(times: float, status: Outcome) -> None:
    """1.5 % is surely slower here, and not worth an alarm."""
    verdict = only(compare(processes(), processes(times, seed=1)))
    assert verdict.status is status
    assert verdict.ratio is not None
    assert verdict.ratio.value == pytest.approx(times, abs=0.005)
    assert verdict.old_ns == pytest.approx(1e6, rel=0.01)
    assert verdict.new_ns == pytest.approx(1e6 * times, rel=0.01)
    assert verdict.processes == (8, 8)


def test_records_of_an_earlier_source_in_the_same_file_do_not_count() -> None:
    """Records may be those of a run that was continued after a kernel had changed."""
    earlier = processes(2.0, source="0123", time="2026-02-01T000")
    verdict = only(compare(processes(source="4567"), [*earlier, *processes(source="4567", seed=1)]))
    assert (verdict.status, verdict.processes) == (Outcome.same, (8, 8))


def test_another_floor_moves_the_line() -> None:
    old, new = processes(), processes(1.03, seed=1)
    assert only(compare(old, new, floor=0.05)).status is Outcome.same
    assert only(compare(old, processes(1.015, seed=1), floor=0.01)).status is Outcome.slower


def test_what_noise_hides_is_unclear() -> None:
    assert only(compare(processes(noise=0.1), processes(1.03, noise=0.1, seed=1))).status is Outcome.unclear


def test_samples_of_one_process_are_one_witness() -> None:
    """Slower by a tenth in every one of a thousand samples, which share the noise of one process."""
    old, new = (processes(times, count=1, noise=0)[0] for times in (1.0, 1.1))
    verdict = only(compare([old], [new]))
    assert verdict.status is Outcome.unclear
    assert verdict.reason == "fewer than 6 processes a side: noise of 10 % between them is assumed"
    assert only(compare([old], processes(2.0, count=1))).status is Outcome.slower


def test_more_points_ask_for_more_certainty() -> None:
    """A chance of 1 in 500 is enough for one point, and one among twenty has it too often."""
    some = Difference(ratio=Interval(1.05, 0.99, 1.1), p_slower=0.002, p_faster=0.998)
    none = Difference(ratio=Interval(1.0, 0.99, 1.01), p_slower=0.5, p_faster=0.5)
    assert decide([some]) == [Outcome.slower]
    assert decide([some, *[none] * 19]) == [Outcome.unclear, *[Outcome.same] * 19]
    assert decide([some] * 20) == [Outcome.slower] * 20
    assert decide([]) == []


@pytest.mark.parametrize(
    "status",
    [status for status in Status if status is not Status.passed and not status.of_the_machine],
)
def test_what_passed_and_fails_is_broken_however_few_processes_fail(status: Status) -> None:
    verdict = only(compare(processes(), [*processes()[:-1], failed(status)]))
    assert verdict.status is Outcome.broken
    assert verdict.reason == f"{status.value} (1 of 8 processes): no such luck"


def test_what_failed_before_is_not_broken_now() -> None:
    failing = [failed(Status.crashed)]
    both = only(compare(failing, [failed(Status.wrong)]))
    assert (both.status, both.reason) == (Outcome.incomparable, "crashed: no such luck / wrong: no such luck")
    repaired = only(compare(failing, processes()))
    assert (repaired.status, repaired.reason) == (Outcome.new, "was crashed: no such luck")


@pytest.mark.parametrize("status", [Status.unstable, Status.disturbed])
def test_what_the_machine_spoils_makes_no_kernel_slower(status: Status) -> None:
    spoilt = failed(status, "50 samples were dropped, 3 were not")
    assert only(compare(processes(), [*processes(), spoilt])).status is Outcome.same
    nothing = only(compare(processes(), [spoilt]))
    assert (nothing.status, nothing.reason) == (Outcome.unclear, f"{status.value}: {spoilt.reason}")


def test_a_process_without_a_time_leaves_the_other_pairs_as_they_are() -> None:
    """The machine is now fast, now slow, and one process of each side was disturbed."""
    speeds = [1.0, 1.5, 1.0, 1.0, 1.5, 1.5, 1.0, 1.5, 1.0, 1.5]
    sides = [[processes(speed, count=2, seed=at)[side] for at, speed in enumerate(speeds)] for side in (0, 1)]
    for side, at in ((0, 1), (1, 4)):
        sides[side][at] = failed(Status.disturbed)
    stamped = [
        [one.model_copy(update={"time": f"2026-03-01T{at:03}"}) for at, one in enumerate(side)] for side in sides
    ]
    verdict = only(compare(*stamped))
    assert (verdict.status, verdict.processes) == (Outcome.same, (9, 9))


def test_points_of_one_side_are_missing_or_new() -> None:
    verdicts = compare(processes(), processes(x=2.0))
    assert [(verdict.key.x, verdict.status) for verdict in verdicts] == [(1.0, Outcome.missing), (2.0, Outcome.new)]


def test_what_is_new_and_fails_says_why() -> None:
    verdict = only(compare([], [failed(Status.wrong)]))
    assert (verdict.status, verdict.reason) == (Outcome.new, "wrong: no such luck")


def test_other_conditions_are_incomparable_and_named() -> None:
    elsewhere = ENVIRONMENT.model_copy(update={"device": "another CPU", "torch": "9.0"})
    verdict = only(compare(processes(), processes(2.0, environment=elsewhere)))
    assert verdict.status is Outcome.incomparable
    assert verdict.reason == "device: a CPU / another CPU; torch: 2.8.0 / 9.0"


def test_of_several_machines_that_of_the_newest_counts() -> None:
    elsewhere = ENVIRONMENT.model_copy(update={"device": "another CPU"})
    old = [*processes(), *processes(2.0, environment=elsewhere)]
    assert only(compare(old, processes(2.0, environment=elsewhere, seed=1))).status is Outcome.same
    assert only(compare(old, processes(seed=1))).status is Outcome.same


def test_another_version_of_moebench_is_what_is_compared() -> None:
    newer = ENVIRONMENT.model_copy(update={"moebench": "9.0"})
    assert only(compare(processes(), processes(environment=newer, seed=1))).status is Outcome.same


def test_clocks_apart_are_incomparable() -> None:
    def clocks(mhz: int) -> Clocks:
        return Clocks(sm_mhz=mhz, memory_mhz=2619, power_w=300.0, temperature_c=50, throttle_reasons=[])

    verdict = only(compare(processes(clocks=clocks(1980)), processes(1.1, clocks=clocks(1755))))
    assert (verdict.status, verdict.reason) == (Outcome.incomparable, "sm_mhz: 1980 / 1755")
    assert only(compare(processes(clocks=clocks(1980)), processes(1.1, clocks=clocks(1965)))).status is Outcome.slower


def test_another_default_is_judged_and_named() -> None:
    verdict = only(compare(processes(config={"tile": 1}), processes(1.1, config={"tile": 2}, seed=1)))
    assert (verdict.status, verdict.reason) == (Outcome.slower, "config: tile=1 / tile=2")


def test_named_points_are_judged_alone() -> None:
    both = [*processes(), *processes(x=2.0)]
    keys = [verdict.key for verdict in compare(both, both)]
    assert [verdict.key for verdict in compare(both, both, keys=keys[1:])] == keys[1:]


@given(old=st.lists(records(), max_size=6), new=st.lists(records(), max_size=6))
def test_any_records_get_verdicts(old: list[Record], new: list[Record]) -> None:
    verdicts = compare(old, new)
    assert len({verdict.key for verdict in verdicts}) == len(verdicts)


@given(one=st.lists(records(), min_size=1, max_size=6))
def test_records_are_never_worse_than_themselves(one: list[Record]) -> None:
    assert not any(verdict.status.worse for verdict in compare(one, one))


def test_caches_that_each_side_made_cold_in_another_way_are_said() -> None:
    """Another way may explain a difference near the floor. Records from before rotation were flushed."""
    flushed = processes()
    assert only(compare(flushed, processes(seed=1))).reason == ""
    assert only(compare(rotated(flushed), rotated(flushed))).reason == ""
    found = only(compare(flushed, rotated(processes(seed=1))))
    assert (found.status, found.reason) == (
        Outcome.same,
        "caches: cold, flushed / cold, rotated, which agree within 2 %",
    )
