"""Names of benchmarks are the same in every format, and counters are written beside the times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import record

from moebench.results.benchmark_names import extra_info, place_of
from moebench.results.record import Memory, Point, Roofline, Traffic, Work

WORK = Work(useful_flops=600, executed_flops=800, ideal_bytes=50, routed_rows=10, kept_rows=9)
TRAFFIC = Traffic(
    ranks_per_node=1,
    self_bytes=[1, 1],
    node_bytes=[1, 2],
    across_bytes=[4, 4],
    messages=[3, 3],
    rows=[1, 1],
    routes=[1, 1],
)
PROBLEM = {"dtype": "float32", "mode": "forward"}


def test_counters_are_written_beside_the_times() -> None:
    found = extra_info(
        record(
            work=WORK,
            memory=Memory(peak=7, saved=3),
            roofline=Roofline(flops_per_s=100, bytes_per_s=100),
            traffic=TRAFFIC,
        )
    )
    assert found["useful_flops"] == 600
    assert found["executed_flops"] == 800
    assert found["drop_rate"] == pytest.approx(0.1)
    assert (found["peak_bytes"], found["saved_bytes"], found["traffic_bytes"]) == (7, 3, 11)
    assert (found["node_bytes"], found["across_bytes"], found["messages"]) == (3, 8, 6)
    assert found["lower_bound_s"] == 6.0
    assert (found["clock"], found["cache"], found["stopped"]) == ("perf_counter", "cold", "settled")


@given(x=st.floats(allow_nan=False, allow_infinity=False), series=st.text())
def test_a_place_has_one_name(x: float, series: str) -> None:
    point = Point(suite="s", question="?", axis="x", series=series, x=x, baseline="loop")
    assert place_of(point, PROBLEM) == place_of(point.model_copy(), dict(PROBLEM))
    assert "\n" not in place_of(point, PROBLEM)
