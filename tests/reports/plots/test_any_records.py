"""Drawings of any records are made without an error, and the same each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import record, records

from moebench.reports.plots.drawings import drawings
from moebench.reports.plots.palette import styles
from moebench.reports.section import sections
from moebench.results.record import Clocks, Memory, Phases, Point, Record, Roofline, Stages, Timing, Work

PLACES: list[float | str] = [0.0, -1.0, 1.0, 2.0, 4.0, 1e30, 2.0**-90, "dropless", "a model", "$x$"]
X = st.sampled_from(PLACES)
SIZES = st.sampled_from([None, 0, 1, 2, 4, 64, 2**99, "many", True, -3])
TIMES = st.lists(st.sampled_from([2.0**-90, 1.0, 1e6, 1.1e6, 3e6, 1e29]), min_size=1, max_size=3)
COUNTS = st.sampled_from([0, 1, 10**6, 2**99])


@st.composite
def alike(draw: st.DrawFn) -> list[Record]:
    """Draw records of one suite that are near each other, so that every kind of plot has something to show."""
    axis = draw(st.sampled_from(["tokens T", "granularity G", "ranks", "capacity factor", ""]))
    tuned = draw(st.booleans())
    return [draw(_one(axis, tuned)) for _ in range(draw(st.integers(1, 14)))]


@st.composite
def _one(draw: st.DrawFn, axis: str, tuned: bool) -> Record:
    names = ("T", "E", "K", "F", "D", "capacity_factor", "ranks", "load", "router")
    problem: dict[str, Any] = {name: draw(SIZES) for name in draw(st.sets(st.sampled_from(names)))}
    x = draw(X)
    if draw(st.booleans()):
        problem |= {"T": x, "ranks": x, "capacity_factor": x}
    point = Point(
        suite="any",
        question="Is it drawn?",
        axis=axis,
        series=draw(st.sampled_from(["s", "t", ""])),
        x=x,
        baseline="a",
        stage=draw(st.sampled_from(["search", "final"])) if tuned else None,
        batch=draw(st.integers(0, 2)) if tuned else None,
    )
    timing = Timing(clock="perf_counter", cache="cold", samples_ns=draw(TIMES), stopped="settled")
    two = st.lists(st.sampled_from([0.0, 1e6]), min_size=0, max_size=2)
    changes: dict[str, Any] = {
        "work": Work(
            useful_flops=draw(COUNTS),
            executed_flops=draw(COUNTS),
            ideal_bytes=draw(COUNTS),
            routed_rows=8,
            kept_rows=draw(st.integers(0, 8)),
        ),
        "roofline": Roofline(flops_per_s=draw(st.sampled_from([1e12, 2.0**-90])), bytes_per_s=1e9),
        "memory": Memory(peak=draw(COUNTS), saved=0),
        "clocks": Clocks(energy_j=draw(st.sampled_from([0.0, 1.0, 5.0, 1e29]))),
        "stages": Stages(stages_ns=draw(st.sampled_from([{}, {"up": 0.0}, {"up": 1e6, "down": 2e6}])), whole_ns=4e6),
        "phases": Phases(**dict.fromkeys(Phases.model_fields, draw(two))),
    }
    kept = draw(st.sets(st.sampled_from(sorted(changes))))
    return record(
        point=point,
        problem=problem | draw(st.sampled_from([{}, {"dtype": "float32", "mode": "forward"}, {"mode": "train"}])),
        key=f"{x} {problem}",
        kernel=draw(st.sampled_from(["a", "b", "c", "dense", "router_alone", "<b>"])),
        config={"tile": draw(st.integers(0, 2))},
        commit=draw(st.sampled_from(["0123abc", "1123abc", "2123abc", "unknown"])),
        time=f"2026-03-0{draw(st.integers(1, 9))}T10:00:00Z",
        timing=timing,
        **{name: changes[name] for name in kept},
    )


def _drawn(found: Sequence[Record]) -> list[str]:
    looks = styles(record.kernel for record in found)
    return [
        text
        for section in sections(found)
        for drawing in drawings(section, looks)
        for text in (drawing.alt, drawing.caption, *drawing.panels)
    ]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(alike())
def test_records_of_one_suite_are_drawn_whatever_they_hold(found: list[Record]) -> None:
    assert "nan" not in " ".join(_drawn(found)).lower().replace("nand", "")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(records(), max_size=5))
def test_any_records_are_drawn_alike_each_time(found: list[Record]) -> None:
    assert _drawn(found) == _drawn(found)
