"""Tests of the terms in the time of a step on a CPU."""

from __future__ import annotations

import dataclasses

import pytest

from moebench.kernels.cost_model.cpu import (
    FRESH_BYTES,
    GRAIN,
    SPEEDS,
    Operations,
    fresh_bytes,
    pointwise_threads,
)
from moebench.kernels.steps import Rates

RATES = Rates(flops_per_s=1e12, bytes_per_s=1e11, call_s=4e-6)
ALL = Operations(name="up", calls=250, threads=2, cores=2, flops=2e9, bytes=3e8)


def test_calls_products_and_bytes_add_up() -> None:
    assert ALL.seconds(RATES) == pytest.approx(1e-3 + 2e-3 + 3e-3)


def test_half_the_threads_multiply_half_as_fast_and_copy_faster_than_that() -> None:
    """The time to start an operation does not depend on the number of threads."""
    calls, flops, moved = (
        Operations(name="up", threads=1, cores=2, **{"calls": 0, part: amount}).seconds(RATES)  # type: ignore[arg-type]  # one field
        for part, amount in (("calls", 250), ("flops", 2e9), ("bytes", 3e8))
    )
    assert calls == pytest.approx(1e-3)
    assert flops == pytest.approx(4e-3)
    assert 3e-3 < moved < 6e-3


def test_copies_are_never_faster_than_the_rate() -> None:
    """The rate is not exceeded when nearly all cores copy."""
    most = Operations(name="gather", calls=0, threads=15, cores=16, bytes=1e11)
    assert most.seconds(RATES) == pytest.approx(1)


def test_other_products_have_another_speed() -> None:
    slow = Operations(name="up", calls=0, threads=2, cores=2, flops=1e12, dtype="float16", held="float16")
    assert slow.seconds(RATES) == pytest.approx(1 / SPEEDS["float16"]["float16"])
    measured = dataclasses.replace(RATES, products={"float16": 5e11})
    assert slow.seconds(measured) == pytest.approx(2)


def test_new_pages_and_pointwise_elements_take_time_too() -> None:
    """The rates of the machine count where they were measured; half the threads make half the elements."""
    rates = dataclasses.replace(RATES, fresh_bytes_per_s=4e9, pointwise={"float32": 1e9})
    one = Operations(name="activation", calls=0, threads=1, cores=2, fresh=8e9, gated=1e9)
    assert one.seconds(rates) == pytest.approx(2 + 2)
    assert one.why(rates) == "8e+03 MB of new pages in 2e+03 ms, 1e+03 million elements in 2e+03 ms on 1 of 2 cores"
    assert one.seconds(RATES) > 2


def test_only_large_tensors_lie_in_new_pages() -> None:
    assert fresh_bytes(FRESH_BYTES - 1, FRESH_BYTES, 3 * FRESH_BYTES) == 4 * FRESH_BYTES


def test_why_names_the_largest_part_first_and_leaves_out_what_takes_no_time() -> None:
    assert ALL.why(RATES) == "300 MB in 3 ms, 2 GFLOP in 2 ms, 250 calls in 1 ms on 2 of 2 cores"
    one = Operations(name="sort", calls=1, threads=1, cores=2)
    assert one.why(RATES) == "1 calls in 0.004 ms on 1 of 2 cores"
    assert Operations(name="up", calls=0, threads=1, cores=2).why(RATES) == "nothing on 1 of 2 cores"


@pytest.mark.parametrize(
    ("elements", "threads"), [(0, 1), (1, 1), (GRAIN, 1), (GRAIN + 1, 2), (3 * GRAIN, 3), (99 * GRAIN, 4)]
)
def test_small_operations_stay_on_one_thread(elements: int, threads: int) -> None:
    assert pointwise_threads(4, elements) == threads
