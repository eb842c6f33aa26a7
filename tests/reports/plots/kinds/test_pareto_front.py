"""The front has the kernels that no other beats in both costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from drawn import frame_of, marks, texts
from hypothesis import given
from hypothesis import strategies as st

from moebench.reports.plots.canvas import settings
from moebench.reports.plots.kinds.pareto_front import on_front, pareto_drawings, pareto_front
from moebench.reports.plots.palette import styles
from moebench.results.record import Clocks, Record

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
