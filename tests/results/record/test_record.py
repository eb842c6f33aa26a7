"""Records: every field survives its file, and invalid values are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from records import ENVIRONMENT, TIMING, record, records

from moebench.results.record import Environment, Error, Record, Roofline, Stages, Status, Timing, Work

WORK = Work(useful_flops=600, executed_flops=900, ideal_bytes=50, routed_rows=8, kept_rows=6)


@given(one=records())
def test_a_record_is_the_same_after_its_json(one: Record) -> None:
    """Compared as text: NaN and infinite errors survive too, and a NaN does not equal itself."""
    assert repr(Record.model_validate_json(one.model_dump_json(exclude_none=True))) == repr(one)


@given(one=records())
def test_json_is_one_line_that_every_reader_takes(one: Record) -> None:
    """The JSON has no bare NaN or Infinity, which JSON does not allow."""
    text = one.model_dump_json(exclude_none=True)
    assert "\n" not in text
    json.loads(text, parse_constant=pytest.fail)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.passed])
def test_samples_exist_only_where_it_passed(status: Status) -> None:
    with pytest.raises(ValidationError, match=f"status is {status.value}, but there are samples"):
        record(status=status, reason="because", timing=TIMING)
    with pytest.raises(ValidationError, match=f"status is {status.value}, but no reason is given"):
        record(status=status, reason="", timing=None)
    assert record(status=status, reason="because", timing=None).timing is None


def test_who_passed_has_samples() -> None:
    with pytest.raises(ValidationError, match="status is passed, but there are no samples"):
        record(timing=None)


@pytest.mark.parametrize("samples", [[], [0.0], [-1.0], [1.0, float("nan")]])
def test_samples_are_positive_times(samples: list[float]) -> None:
    with pytest.raises(ValidationError):
        Timing(clock="perf_counter", cache="cold", samples_ns=samples, stopped="settled")


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [(record(), "status", Status.wrong), (TIMING, "throttled", 3), (WORK, "kept_rows", 0), (ENVIRONMENT, "cores", 1)],
    ids=["record", "timing", "work", "environment"],
)
def test_nothing_changes_afterwards(part: Any, name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(part, name, value)


def test_unknown_fields_are_errors() -> None:
    with pytest.raises(ValidationError, match="speed"):
        record(speed=3)
    with pytest.raises(ValidationError, match="mean"):
        Error(norm=0.0, worst_row=0.0, mean=0.0)  # type: ignore[call-arg]


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_other_schemas_are_refused(version: object) -> None:
    with pytest.raises(ValidationError, match="schema_version"):
        record(schema_version=version)


def test_a_refusal_or_a_full_memory_is_no_bad_answer() -> None:
    fine = {Status.passed, Status.unsupported, Status.invalid, Status.out_of_memory}
    assert {status for status in Status if not status.bad} == fine


def test_drop_rate_is_the_share_of_routes_without_a_place() -> None:
    assert WORK.drop_rate == 0.25
    assert WORK.model_copy(update={"kept_rows": 8}).drop_rate == 0
    assert WORK.model_copy(update={"kept_rows": 0, "routed_rows": 0}).drop_rate == 0


def test_the_bound_is_the_slower_of_products_and_bytes() -> None:
    """600 useful FLOPs at 200 per second are 3 s, whatever is executed; 50 bytes at 10 per second are 5 s."""
    assert Roofline(flops_per_s=200, bytes_per_s=100).bound_ns(WORK) == 3e9
    assert Roofline(flops_per_s=200, bytes_per_s=10).bound_ns(WORK) == 5e9


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_rates_are_positive_numbers(rate: float) -> None:
    with pytest.raises(ValidationError):
        Roofline(flops_per_s=rate, bytes_per_s=1.0)
    with pytest.raises(ValidationError):
        Roofline(flops_per_s=1.0, bytes_per_s=rate)


@pytest.mark.parametrize("name", sorted(set(Environment.model_fields) - {"threads", "device_type"}))
def test_environments_differ_in_every_field_but_the_threads(name: str) -> None:
    here = ENVIRONMENT.model_copy(update={"routes_by": "CUDA"})
    other = here.model_copy(update={name: "other"})
    assert other.differs(here) == [f"{name}: other / {getattr(here, name)}"]
    assert here.model_copy(update={"threads": 99}).differs(here) == []


def test_an_environment_from_before_cupy_was_recorded_is_the_same_machine() -> None:
    """An environment of an older file reads, also when written again; its other fields still tell machines apart."""
    fields = ENVIRONMENT.model_dump(exclude={"cupy", "routes_by"})
    old = Environment.model_validate(fields)
    now = Environment.model_validate({**fields, "cupy": "14.2.0", "routes_by": "CUDA"})
    for before in (old, Environment.model_validate_json(old.model_dump_json())):
        assert before.differs(now) == now.differs(before) == []
        assert before.model_copy(update={"torch": "2.9"}).differs(now) == [f"torch: 2.9 / {now.torch}"]
    without = now.model_copy(update={"cupy": None, "routes_by": "torch: cupy is not installed"})
    assert [difference.partition(":")[0] for difference in now.differs(without)] == ["cupy", "routes_by"]


@given(config=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3)))
def test_identity_does_not_depend_on_the_order_of_the_configuration(config: dict[str, int]) -> None:
    backwards = dict(reversed(config.items()))
    assert record(config=config).identity == record(config=backwards).identity


def test_identity_tells_suite_problem_kernel_and_configuration() -> None:
    one = record(config={"tile": 1})
    others = [
        record(config={"tile": 2}),
        record(config={}),
        record(config={"tile": 1}, kernel="other"),
        record(config={"tile": 1}, key="other"),
        record(config={"tile": 1}, point=one.point.model_copy(update={"suite": "other"})),
    ]
    assert len({one.identity, *(other.identity for other in others)}) == 6
    assert record(config={"tile": 1}, commit="other").identity == one.identity


@given(parts=st.lists(st.floats(min_value=0, max_value=1e12), max_size=4), rest=st.floats(min_value=0, max_value=1e12))
def test_stages_and_the_unattributed_rest_are_the_whole(parts: list[float], rest: float) -> None:
    named: Any = dict(zip(("dispatch", "up", "down", "combine"), parts, strict=False))
    stages = Stages(stages_ns=named, whole_ns=sum(parts) + rest)
    assert stages.unattributed_ns >= 0
    assert sum(stages.stages_ns.values()) + stages.unattributed_ns == pytest.approx(stages.whole_ns)


@pytest.mark.parametrize("stages_ns", [{"up": 60.0, "down": 41.0}, {"up": -1.0}, {"lunch": 1.0}])
def test_stages_longer_than_their_call_negative_or_unknown_are_refused(stages_ns: Any) -> None:
    with pytest.raises(ValidationError):
        Stages(stages_ns=stages_ns, whole_ns=100.0)


def test_a_record_without_stages_is_read_and_one_with_them_keeps_them() -> None:
    assert record().stages is None
    one = record(stages=Stages(stages_ns={"up": 60.0, "down": 30.0}, whole_ns=100.0))
    assert Record.model_validate_json(one.model_dump_json()).stages == one.stages
