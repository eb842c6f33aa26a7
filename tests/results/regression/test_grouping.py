"""Grouping: records of the same measurement, and records made under the same conditions."""

from __future__ import annotations

import pytest
from records import ENVIRONMENT, TIMING, record

from moebench.results.record import Status
from moebench.results.regression.grouping import conditions, points


def test_records_of_a_point_come_together_oldest_first() -> None:
    late, early, other = record(time="2026-03-02"), record(time="2026-03-01"), record(2.0)
    (found,) = points([late, other, early])
    assert list(found.values()) == [[other], [early, late]] or list(found.values()) == [[early, late], [other]]


def test_what_becomes_of_a_default_is_the_same_point() -> None:
    before, after = points([record(config={"tile": 1})], [record(config={"tile": 2})])
    assert before.keys() == after.keys()


def test_several_configurations_of_a_kernel_are_distinguished_on_both_sides() -> None:
    before, after = points([record(config={"tile": 1})], [record(config={"tile": 1}), record(config={"tile": 2})])
    assert [key.config for key in before] == ["tile=1"]
    assert [key.config for key in after] == ["tile=1", "tile=2"]


def test_a_record_without_a_configuration_is_about_the_one_that_there_is() -> None:
    """Records of workers that died are like this: otherwise a point that passed before would be gone, not broken."""
    died = record(status=Status.crashed, reason="SIGSEGV", timing=None)
    before, after = points([record(config={"tile": 1})], [record(config={"tile": 1}), died])
    assert before.keys() == after.keys()


@pytest.mark.parametrize("ns", [float("inf"), 1e300, 1e-300])
def test_a_time_that_no_clock_gives_is_left_out(ns: float) -> None:
    assert points([record(timing=TIMING.model_copy(update={"samples_ns": [1.0, ns]}))]) == [{}]


@pytest.mark.parametrize("field", [name for name in type(ENVIRONMENT).model_fields if name != "moebench"])
def test_conditions_differ_in_every_field_of_the_environment_but_our_own_version(field: str) -> None:
    here = ENVIRONMENT.model_copy(update={"routes_by": "CUDA"})
    value = {int: 99, str: "other"}.get(type(getattr(here, field)), "other")
    other = record(environment=here.model_copy(update={field: value, "moebench": "9"}))
    assert conditions(record(environment=here), other) == [f"{field}: {getattr(here, field)} / {value}"]


def test_conditions_differ_in_the_clock_and_the_cache() -> None:
    hot = record(timing=TIMING.model_copy(update={"clock": "cuda_event", "cache": "hot"}))
    assert conditions(record(), hot) == ["clock: perf_counter / cuda_event", "cache: cold / hot"]
