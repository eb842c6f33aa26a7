"""The front has the kernels that no other beats in both costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from drawn import dashed, frame_of, intervals, marks, texts
from hypothesis import given
from hypothesis import strategies as st

from moebench.reports.plots.canvas import group_id, settings
from moebench.reports.plots.kinds.pareto_front import on_front, pareto_drawings, pareto_front, reach
from moebench.reports.plots.palette import styles
from moebench.results.record import Clocks, Record, Roofline

Make = Callable[..., Record]
POINTS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


@given(POINTS)
def test_a_point_is_on_the_front_unless_another_is_as_good_in_both_and_better_in_one(
    points: list[tuple[int, int]],
) -> None:
    time, cost = np.array(points, dtype=float).T
    beaten = [
        any(t <= x and c <= y and (t, c) != (x, y) for t, c in points)  # the definition, point by point
        for x, y in points
    ]
    assert on_front(time, cost).tolist() == [not one for one in beaten]
    assert on_front(time, cost).any()


def _three(make: Make) -> list[Record]:
    costs = {"fast": (1.0, 900), "small": (3.0, 100), "worse": (4.0, 950)}
    return [make(kernel, ms=ms, peak=mib * 2**20) for kernel, (ms, mib) in costs.items()]


def test_marks_are_at_time_and_memory_and_the_front_is_named(make: Make) -> None:
    frame = frame_of(_three(make))
    figure = pareto_front(frame, "peak_mib", styles(frame["kernel"]))
    assert figure is not None
    assert {record: at[1] for record, at in marks(figure).items()} == {0: 900, 1: 100, 2: 950}
    (bound,) = (line for line in figure.axes[0].lines if line.get_linestyle() == ":")
    assert set(np.asarray(bound.get_xdata()).tolist()) == {frame["bound_ms"].min()}
    assert {"fast", "small"} <= set(texts(figure))
    assert "worse" not in texts(figure)


def test_times_have_intervals_and_the_steps_of_the_front_and_the_lowest_bound_are_drawn(make: Make) -> None:
    spread = np.linspace(0.9, 1.1, 30)
    costs = {"fast": (1.0, 900), "middle": (2.0, 500), "small": (3.0, 100)}
    machines = [Roofline(flops_per_s=rate, bytes_per_s=1e15) for rate in (1e14, 2e14, 3e14)]
    records = [
        make(kernel, ms=list(ms * spread), peak=mib * 2**20, roofline=machine)
        for (kernel, (ms, mib)), machine in zip(costs.items(), machines, strict=True)
    ]
    frame = frame_of(records).sort_values("record")
    figure = pareto_front(frame, "peak_mib", styles(frame["kernel"]))
    assert figure is not None
    assert [marks(figure)[record][0] for record in range(3)] == pytest.approx([1, 2, 3])
    drawn = sorted((low[0], high[0], low[1]) for low, high in intervals(figure))
    assert drawn == list(zip(frame["low_ms"], frame["high_ms"], (900, 500, 100), strict=True))
    (steps,) = dashed(figure)
    corners = [(1, 900), (2, 900), (2, 500), (3, 500), (3, 100)]
    assert np.array(steps) == pytest.approx(np.array(corners)), "on to the next time, then down"
    ((bound, _), _) = dashed(figure, ":")[0]
    assert bound == frame["bound_ms"].min() < frame["bound_ms"].median()
    left, right = figure.axes[0].get_xlim()
    assert left < bound
    assert right > frame["high_ms"].max()


def test_a_name_belongs_to_the_series_of_its_mark(make: Make) -> None:
    frame = frame_of(_three(make))
    looks = styles(frame["kernel"])
    figure = pareto_front(frame, "peak_mib", looks)
    assert figure is not None
    named = {text.get_text(): text.get_gid() for text in figure.axes[0].texts if text.get_text() in looks}
    assert {"fast", "small"} <= set(named)
    assert named == {name: group_id(list(looks).index(name)) for name in named}


def test_a_panel_reaches_to_the_end_of_the_longest_interval(make: Make) -> None:
    frame = frame_of([*_three(make), make("noisy", ms=[1.0, 1.1, 50.0], peak=2**30)])
    times, costs = reach(frame, "peak_mib")
    assert times.max() > frame["high_ms"].max() > 2 * frame["median_ms"].max()
    assert times.min() < frame["bound_ms"].min()
    assert (costs.min(), costs.max()) == pytest.approx((90, 1.1 * 1024))


def test_of_each_kernel_the_fastest_configuration_is_drawn(make: Make) -> None:
    slow = [make("fast", ms=9.0, config={"tile": 2}), make("small", ms=0.5, peak=2**20, config={"tile": 2})]
    frame = frame_of([*_three(make), *slow])
    figure = pareto_front(frame, "peak_mib", styles(frame["kernel"]))
    assert figure is not None
    assert set(marks(figure)) == {0, 2, 4}


def test_panels_share_both_scales_where_all_stay_readable(make: Make) -> None:
    def drawing(factor: float) -> tuple[str, list[str]]:
        costs = {"a": (1.0, 900), "b": (2.0, 500), "c": (3.0, 100)}
        records = [
            make(kernel, x=float(T), ms=ms * grown, peak=int(mib * grown * 2**20), problem={"T": T})
            for T, grown in ((1, 1.0), (64, factor))
            for kernel, (ms, mib) in costs.items()
        ]
        frame = frame_of(records)
        with settings():
            (found,) = pareto_drawings(frame, styles(frame["kernel"]))
        return found.caption, found.panels

    assert "All panels have the same scale." in drawing(1.5)[0]
    assert "Each panel has its own scale." in drawing(1000.0)[0]


def test_energy_is_weighed_where_it_was_measured(make: Make) -> None:
    frame = frame_of(_three(make))
    looks = styles(frame["kernel"])
    with settings():
        (memory,) = pareto_drawings(frame, looks)
        measured = [
            make(k, ms=ms, clocks=Clocks(energy_j=j)) for k, ms, j in (("a", 1.0, 3), ("b", 2.0, 1), ("c", 3.0, 4))
        ]
        energy = pareto_drawings(frame_of(measured), styles("abc"))
    assert memory.name == "time-memory"
    assert "on the front fast (1.00 ms, 900 MiB), small (3.00 ms, 100 MiB)." in memory.alt
    assert [drawing.name for drawing in energy] == ["time-energy"], "all have the same memory"
    assert "on the front a (1.00 ms, 3.00 J), b (2.00 ms, 1.00 J)." in energy[0].alt


def test_two_kernels_have_no_front(make: Make) -> None:
    frame = frame_of(_three(make)[:2])
    assert pareto_front(frame, "peak_mib", styles(frame["kernel"])) is None
    assert pareto_drawings(frame, styles(frame["kernel"])) == []
