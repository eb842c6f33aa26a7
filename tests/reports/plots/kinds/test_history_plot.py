"""A history shows the median of every commit, its band of noise and the changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from drawn import section_of, texts
from hypothesis import given
from hypothesis import strategies as st

from moebench.reports.frame import history_frame, noise_band
from moebench.reports.plots.drawings import drawings
from moebench.reports.plots.kinds.history_plot import history_drawings, history_plot
from moebench.reports.plots.palette import styles
from moebench.results.record import Record
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
