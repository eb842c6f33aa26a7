"""Times from records: which records are of a problem, which of several count, and what is interpolated."""

from __future__ import annotations

import math

import pytest
from advised import ELSEWHERE, PROBLEM, recorded, timed
from hypothesis import given
from hypothesis import strategies as st
from records import ENVIRONMENT, VALUES, records

from moebench.kernels.problem import Problem
from moebench.results.record import Record, Status
from moebench.results.record.advice import AdviceSource
from moebench.suites.advice.recorded_times import RecordedTimes, layer_of, load_word, problem_of
from moebench.suites.advice.table_times import TableTimes

AT_64 = PROBLEM.replace(T=64)


def kernels(times: RecordedTimes, problem: Problem = AT_64) -> dict[str, float]:
    """Return the milliseconds of each kernel."""
    found = times.of(problem)
    return {} if found is None else {one.kernel: round(1e3 * one.seconds, 6) for one in found.dispatches}


@pytest.mark.parametrize(
    "other",
    [
        {"D": 64},
        {"K": 1},
        {"dtype": "bfloat16"},
        {"mode": "train"},
        {"capacity_factor": 1.25},
        {"load": "zipf:1"},
        {"router": "expert_choice"},
        {"gated": False},
        {"ranks": 2},
        {"bias": True},
        {"block": "shared"},
    ],
    ids=str,
)
def test_records_of_another_problem_do_not_count(other: dict[str, object]) -> None:
    assert kernels(RecordedTimes([timed("loop", 64, 1.0, problem=other)])) == {}
    asked = AT_64.replace(**other)
    assert kernels(RecordedTimes([timed("loop", 64, 1.0)]), asked) == {}
    assert kernels(RecordedTimes([timed("loop", 64, 1.0, problem=other)]), asked) == {"loop": 1.0}


@pytest.mark.parametrize("same", [{"seed": 3}, {"router": "softmax_topk"}, {"drop": "gate_weight"}], ids=str)
def test_what_no_dispatch_depends_on_does_not_matter(same: dict[str, object]) -> None:
    assert kernels(RecordedTimes([timed("loop", 64, 1.0, problem=same)])) == {"loop": 1.0}


def test_the_order_of_service_matters_with_a_capacity() -> None:
    capped = {"capacity_factor": 1.0}
    other = timed("loop", 64, 1.0, problem={**capped, "drop": "gate_weight"})
    assert kernels(RecordedTimes([other]), AT_64.replace(**capped)) == {}


def test_equal_loads_are_one_word() -> None:
    assert load_word("zipf:1.0") == load_word("zipf:1") == "zipf:1"
    assert load_word("hot") == "hot"
    assert load_word("trace:/a/b.npy#0123") == load_word("trace:b.npy#0123") == "trace:b.npy#0123"
    assert load_word("of tomorrow:3") == "of tomorrow:3"
    record = timed("loop", 64, 1.0, problem={"load": "zipf:1.0"})
    assert kernels(RecordedTimes([record]), AT_64.replace(load="zipf:1")) == {"loop": 1.0}


def test_the_latest_trial_counts_unless_the_machine_had_no_number() -> None:
    first, second = timed("loop", 64, 1.0), timed("loop", 64, 3.0, at=1)
    disturbed = timed("loop", 64, 1.0, at=2, status=Status.disturbed, reason="others", timing=None)
    crashed = timed("loop", 64, 1.0, at=3, status=Status.crashed, reason="it died", timing=None)
    assert kernels(RecordedTimes([second, first])) == {"loop": 3.0}
    assert kernels(RecordedTimes([first, second, disturbed])) == {"loop": 3.0}
    found = RecordedTimes([first, second, crashed, timed("grouped", 64, 9.0)]).of(AT_64)
    assert found is not None
    assert [one.kernel for one in found.dispatches] == ["grouped"]
    assert found.left_out == ["loop: crashed: it died"]


def test_the_fastest_configuration_of_a_kernel_counts() -> None:
    slow, fast = (timed("scatter", 64, ms, config={"tile": tile}) for ms, tile in ((2.0, 64), (1.0, 128)))
    found = RecordedTimes([fast, slow]).of(AT_64)
    assert found is not None
    (one,) = found.dispatches
    assert (one.config, round(1e3 * one.seconds, 6)) == ({"tile": 128}, 1.0)


def test_ways_of_timing_and_environments_are_never_mixed() -> None:
    hot, cold = timed("grouped", 64, 1.0, cache="hot", at=9), timed("loop", 64, 5.0)
    assert kernels(RecordedTimes([hot, cold])) == {"loop": 5.0}
    assert kernels(RecordedTimes([hot])) == {"grouped": 1.0}
    newer = timed("padded", 64, 7.0, at=1, environment=ENVIRONMENT.model_copy(update={"torch": "2.9.0"}))
    times = RecordedTimes([cold, newer])
    assert kernels(times) == {"padded": 7.0}
    assert times.environments([AT_64]) == 2
    assert times.environments([AT_64.replace(E=8)]) == 0


def test_references_and_parts_of_a_layer_and_tuning_runs_are_no_dispatch() -> None:
    tuning = timed("scatter", 64, 1.0)
    tuning = tuning.model_copy(update={"point": tuning.point.model_copy(update={"stage": "final", "batch": 1})})
    times = RecordedTimes([timed("dense", 64, 1.0), timed("router_alone", 64, 1.0), tuning])
    assert kernels(times) == {}
    assert times.has(AT_64)
    assert times.lack(AT_64) == "the records of this layer are of tuning runs, whose tables do not cover this"


@given(st.integers(65, 8191), st.floats(0.1, 10), st.floats(0.1, 10))
def test_between_two_numbers_of_tokens_logarithms_are_linear(T: int, low: float, high: float) -> None:
    found = RecordedTimes([timed("loop", 64, low), timed("loop", 8192, high)]).of(PROBLEM.replace(T=T))
    assert found is not None
    (one,) = found.dispatches
    share = math.log(T / 64) / math.log(8192 / 64)
    assert one.source is AdviceSource.interpolated
    assert one.seconds == pytest.approx(1e-3 * low ** (1 - share) * high**share)
    assert one.peak_bytes == 1000 * T
    assert one.basis == "interpolated between T=64 and T=8192"


def test_outside_of_what_was_measured_there_is_no_time() -> None:
    times = RecordedTimes([timed("loop", 64, 1.0), timed("loop", 256, 1.0), timed("grouped", 1024, 1.0)])
    assert kernels(times, PROBLEM.replace(T=63)) == {}
    assert kernels(times, PROBLEM.replace(T=2048)) == {}
    assert times.lack(PROBLEM.replace(T=63)) == (
        "T=63 is outside of the numbers of tokens that were measured: 64, 256, 1024"
    )
    assert times.lack(PROBLEM.replace(T=500)) == (
        "no dispatch passed on both sides of T=500; measured were T=64, 256, 1024"
    )
    assert kernels(times, PROBLEM.replace(T=500)) == {}  # no kernel on both sides
    hot = AT_64.replace(load="hot")
    assert times.lack(hot) == "the records of this layer are of load uniform, not hot"
    assert times.lack(AT_64.replace(E=8)) == "no record is of this layer in mode forward"


def test_interpolation_takes_the_nearest_and_what_is_missing_there_is_said() -> None:
    loops = [timed("loop", T, ms) for T, ms in ((16, 9.0), (64, 1.0), (256, 4.0), (1024, 9.0))]
    found = RecordedTimes([*loops, timed("grouped", 64, 1.0), timed("grouped", 1024, 1.0)]).of(PROBLEM.replace(T=128))
    assert found is not None
    assert [(one.kernel, round(1e3 * one.seconds, 6)) for one in found.dispatches] == [("loop", 2.0)]
    assert found.left_out == ["grouped: not measured at both T=64 and T=256"]


def test_where_the_configurations_of_both_sides_differ_that_of_the_nearer_is_taken() -> None:
    ends = [timed("scatter", 64, 1.0, config={"tile": 1}), timed("scatter", 1024, 1.0, config={"tile": 2})]
    for T, tile, side in ((128, 1, 64), (512, 2, 1024)):
        found = RecordedTimes(ends).of(PROBLEM.replace(T=T))
        assert found is not None
        assert found.dispatches[0].config == {"tile": tile}
        assert found.dispatches[0].basis.endswith(f"configuration of T={side}")


def test_a_record_of_sources_that_have_changed_says_so() -> None:
    found = RecordedTimes([timed("loop", 64, 1.0, source="0" * 12)]).of(AT_64)
    assert found is not None
    assert found.dispatches[0].basis == "measured on 2026-03-01, cold caches; its sources have changed since"


def test_records_that_describe_no_problem_are_passed_over() -> None:
    odd = timed("loop", 64, 1.0).model_copy(update={"problem": {"T": "many", "planet": 3}})
    assert problem_of(odd) is None
    assert kernels(RecordedTimes([odd])) == {}


@given(st.lists(records(), max_size=4), st.sampled_from(["T", "D", "load", "router", "dtype", "mode"]), VALUES)
def test_any_records_are_read(drawn: list[Record], field: str, value: object) -> None:
    """Records come from anywhere: of no problem, of one with a strange field, of kernels that nobody knows."""
    odd = timed("loop", 64, 1.0)
    odd = odd.model_copy(update={"problem": {**odd.problem, field: value}})
    everything = [*drawn, odd, timed("of tomorrow", 64, 2.0, source="0" * 12)]
    times = RecordedTimes(everything)
    assert times.has(AT_64)
    assert times.layers
    assert "of tomorrow" in kernels(times)
    TableTimes(everything, ELSEWHERE).of(AT_64)


def test_every_committed_record_is_of_a_layer() -> None:
    found_in: list[Record] = recorded("cpu-main.jsonl")
    assert {layer_of(found) for one in found_in if (found := problem_of(one))}
    assert all(problem_of(one) for one in found_in)


@pytest.mark.parametrize("field", ["block", "router", "load", "wire", "seed"])
@pytest.mark.parametrize("value", [{}, [], {"a": [1]}, 0.5], ids=str)
def test_a_problem_with_a_field_of_another_type_is_none(field: str, value: object) -> None:
    one = timed("loop", 64, 1.0)
    times = RecordedTimes([one.model_copy(update={"problem": one.problem | {field: value}})])
    assert times.has(AT_64) == (field == "load")  # a load may be the file of another machine


def test_where_all_failed_it_is_told_how() -> None:
    crashed = [timed(f"kernel_{number}", 64, 1.0, status="crashed", reason="boom", timing=None) for number in range(4)]
    busy = timed("loop", 64, 1.0, status="disturbed", reason="others", timing=None)
    assert RecordedTimes([busy]).lack(AT_64) == "no dispatch passed at T=64: loop disturbed: others"
    assert RecordedTimes([*crashed, busy]).lack(AT_64) == (
        "no dispatch passed at T=64: kernel_0 crashed: boom; kernel_1 crashed: boom; kernel_2 crashed: boom and 2 more"
    )
