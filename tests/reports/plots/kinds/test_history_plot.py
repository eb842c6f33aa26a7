"""A history shows the median of every commit, its band of noise and the changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from drawn import dashed, places, section_of, texts
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.patches import Polygon

from moebench.reports.frame import history_frame, noise_band
from moebench.reports.plots.canvas import settings, svg
from moebench.reports.plots.drawings import drawings
from moebench.reports.plots.kinds.history_plot import history_drawings, history_plot, lowest_bounds, spanned
from moebench.reports.plots.palette import styles
from moebench.results.record import Record, Work
from moebench.results.regression.history import history

Make = Callable[..., Record]


def _records(make: Make, commits: int, change: float = 1.3) -> list[Record]:
    """Make the times of a kernel at commits, the later half of them longer by a ratio."""
    return [
        make(
            "a", ms=(1.0 if order < commits / 2 else change) + 0.001 * (order % 3), time=f"2026-03-{order + 1:02}"
        ).model_copy(update={"commit": f"{order:07x}"})
        for order in range(commits)
    ]


def test_the_line_is_of_the_medians_and_the_change_is_named(make: Make) -> None:
    records = _records(make, 16)
    frame = history_frame(history(records))
    figure = history_plot(frame, styles(["a"]))
    assert figure is not None
    drawn = [line for line in figure.axes[0].lines if line.get_gid() and np.size(line.get_xdata()) == 16]
    assert np.asarray(drawn[0].get_xdata()).tolist() == list(range(16))
    assert np.asarray(drawn[0].get_ydata()).tolist() == frame["ms"].tolist()
    assert frame["ms"].tolist() == pytest.approx(
        [np.median(record.timing.samples_ns) / 1e6 for record in records if record.timing]
    )
    assert frame.loc[frame["ratio"].notna(), "commit"].tolist() == [f"{8:07x}"]
    assert "× 1.30" in texts(figure)
    assert {x for line in dashed(figure) for x, _ in line} == {7.5}, "before the commit at which the change begins"
    assert [places(figure)[f"{order:07x}"][0] for order in (0, 15)] == [0, 15]
    (band,) = (patch for patch in figure.axes[0].patches if patch.get_gid() == "series-0")
    assert isinstance(band, Polygon)
    corners = {tuple(corner) for corner in band.get_xy().round(9).tolist()}
    ends = frame[["low", "high"]].to_numpy(dtype=float).round(9).tolist()
    assert corners == {(order, end) for order, both in enumerate(ends) for end in both}
    assert frame.loc[:7, "high"].max() < 1.1 < frame.loc[8:, "low"].min(), "the band follows the change"


def test_the_lower_bound_is_drawn_where_it_is_known(make: Make) -> None:
    records = _records(make, 8)
    known = [record for record in records if record.roofline and record.work]
    assert known == records
    frame = history_frame(history([*records[:4], *(one.model_copy(update={"roofline": None}) for one in records[4:])]))
    assert frame["bound_ms"].notna().tolist() == [True] * 4 + [False] * 4
    figure = history_plot(frame, styles(["a"]))
    assert figure is not None
    (dotted,) = (line for line in figure.axes[0].lines if line.get_linestyle() == ":")
    assert np.asarray(dotted.get_xdata()).tolist() == [0, 1, 2, 3]
    bounds = [record.roofline.bound_ns(record.work) / 1e6 for record in records[:4] if record.roofline and record.work]
    assert np.asarray(dotted.get_ydata()).tolist() == pytest.approx(bounds)
    (drawing,) = history_drawings(frame, styles(["a"]))
    assert drawing.bound
    assert "lower bound" in drawing.caption
    (without,) = history_drawings(frame.assign(bound_ms=np.nan), styles(["a"]))
    assert not without.bound
    assert "lower bound" not in without.caption


def test_records_that_are_replaced_are_the_history_of_a_section(make: Make) -> None:
    section = section_of([*_records(make, 16), make("b")])
    (drawing,) = (found for found in drawings(section, styles(section.kernels)) if found.name == "history")
    assert "over 16 commits, a × 1.30 at 0000008" in drawing.alt


def test_two_commits_are_no_history(make: Make) -> None:
    section = section_of([*_records(make, 2), make("b")])
    assert "history" not in [found.name for found in drawings(section, styles(section.kernels))]


def test_the_bound_is_that_of_the_kernel_with_the_least_work(make: Make) -> None:
    fewer = [one.model_copy(update={"kernel": "b", "work": _halved(one)}) for one in _records(make, 4)]
    frame = history_frame(history([*_records(make, 4), *fewer]))
    both = frame.groupby("kernel")["bound_ms"].first()
    assert both["b"] < both["a"]
    assert lowest_bounds(frame).tolist() == [both["b"]] * 4


def _halved(record: Record) -> Work:
    assert record.work
    halved = {name: getattr(record.work, name) // 2 for name in ("useful_flops", "executed_flops", "ideal_bytes")}
    return record.work.model_copy(update=halved)


def test_points_share_their_commits_and_their_scale(make: Make) -> None:
    late = [one.model_copy(update={"point": one.point.model_copy(update={"x": 2.0})}) for one in _records(make, 16)[8:]]
    frame = history_frame(history([*_records(make, 16), *late]))
    panels = [found for _, found in frame.groupby("point", sort=False)]
    together = np.concatenate([spanned(found) for found in panels])
    with settings():
        (drawing,) = history_drawings(frame, styles(["a"]))
        figures = [history_plot(found, styles(["a"]), beside=frame, values=together) for found in panels]
        assert sorted(drawing.panels) == sorted(svg(figure) for figure in figures if figure)
    assert len(panels) == 2
    assert "All panels have the same scale." in drawing.caption


def test_the_band_is_two_standard_deviations_by_the_median_absolute_deviation() -> None:
    assert noise_band([1.0, 2.0, 4.0, 5.0, 9.0], []) == [(4 - 2 * 1.4826 * 2, 4 + 2 * 1.4826 * 2)] * 5


@given(st.lists(st.floats(1, 10), min_size=1, max_size=20), st.data())
def test_the_band_of_a_stretch_is_about_its_median_and_one_value_has_no_noise(
    times: list[float], data: st.DataObject
) -> None:
    edges = sorted(data.draw(st.sets(st.integers(1, len(times)))) - {len(times)})
    bands = noise_band(times, edges)
    assert len(bands) == len(times)
    for start, stop in zip([0, *edges], [*edges, len(times)], strict=True):
        low, high = bands[start]
        assert set(bands[start:stop]) == {(low, high)}
        assert (low + high) / 2 == pytest.approx(float(np.median(times[start:stop])))
        assert (high == low) or stop - start > 1
