"""The answers for machines: ratios between medians, where both sides passed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from moebench.reports.points import points
from moebench.reports.section import sections
from moebench.results.record import Record, Status

Make = Callable[..., Record]


def ratios(records: list[Record]) -> dict[str, Any]:
    (point,) = points(sections(records))
    assert isinstance(point, dict)
    found = point["ratios"]
    assert isinstance(found, dict)
    return found


def test_ratios_are_of_the_fastest_of_ours(make: Make) -> None:
    one_expert = {"T": 8192, "E": 1, "K": 1}
    records = [
        make("a", ms=2.0, noise=0),
        make("loop", ms=5.0, noise=0),
        make("dense", ms=1.0, noise=0, problem=one_expert),
        make("matmul", ms=0.5, noise=0, problem=one_expert),
    ]
    found = ratios(records)
    assert found.pop("best") == "a"
    assert found == pytest.approx({"baseline_over_best": 2.5, "rate_over_matmul": 0.25, "rate_over_dense": 0.5})


def test_a_ratio_needs_both_of_its_sides(make: Make) -> None:
    assert ratios([make("a", ms=2.0)]) == {"best": "a"}
    assert ratios([make("dense", ms=2.0)]) == {}


def test_of_several_configurations_of_a_kernel_the_fastest_counts(make: Make) -> None:
    records = [
        make("a", ms=2.0, noise=0, config={"block": 32}),
        make("a", ms=1.0, noise=0, config={"block": 64}),
        make("a", status=Status.invalid, config={"block": 7}),
        make("loop", ms=3.0, noise=0),
    ]
    (point,) = points(sections(records))
    assert isinstance(point, dict)
    assert point["kernels"]["a"]["config"] == "block=64"  # type: ignore[index,call-overload]  # JSON has any type
    assert ratios(records)["baseline_over_best"] == pytest.approx(3)
