"""The roofline puts every trial where its work and its rate say, under the ceilings that were measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from drawn import frame_of, marks, texts

from moebench.reports.plots.canvas import settings, svg
from moebench.reports.plots.kinds.roofline_plot import reach, roofline_drawings, roofline_plot
from moebench.reports.plots.palette import styles
from moebench.results.record import Record, Roofline

Make = Callable[..., Record]


def test_every_mark_is_at_the_rate_and_the_intensity_of_its_record(suites: dict[str, list[Record]]) -> None:
    records = [record for record in suites["peers"] if record.problem["dtype"] == "float32"]
    frame = frame_of(records)
    figure = roofline_plot(frame, styles(frame["kernel"]))
    assert figure is not None
    found = marks(figure)
    assert len(found) == len(records)
    for index, record in enumerate(records):
        assert record.work is not None
        ms = frame.loc[frame["record"] == index, "median_ms"].iloc[0]
        x, y = found[index]
        assert x == record.work.useful_flops / record.work.ideal_bytes
        assert y == pytest.approx(record.work.useful_flops / ms / 1e9)


def test_the_ceilings_are_a_band_where_records_measured_different_rates(make: Make) -> None:
    rates = Roofline(flops_per_s=700e12, bytes_per_s=2e12), Roofline(flops_per_s=600e12, bytes_per_s=2e12)
    frame = frame_of([make("a", roofline=rates[0]), make("b", roofline=rates[1])])
    figure = roofline_plot(frame, styles(frame["kernel"]))
    assert figure is not None
    assert [line.get_label() for line in figure.axes[0].lines].count("ceiling") == 2
    assert "bfloat16, 700 TFLOP/s, 2\u202f000 GB/s" in texts(figure)


def test_the_ceiling_has_its_ridge_and_all_is_within_the_axes(make: Make) -> None:
    rates = Roofline(flops_per_s=700e12, bytes_per_s=2e12)
    records = [
        make("a", roofline=rates),
        make("a", ms=2.0, roofline=rates, config={"tile": 2}),
        make("b", roofline=rates),
    ]
    frame = frame_of(records)
    figure = roofline_plot(frame, styles(frame["kernel"]))
    assert figure is not None
    (axes,) = figure.axes
    (line,) = (line for line in axes.lines if line.get_label() == "ceiling")
    x, y = (np.asarray(data, dtype=float) for data in (line.get_xdata(), line.get_ydata()))
    assert y == pytest.approx(np.minimum(700, 2 * x))
    assert x.tolist() == [axes.get_xlim()[0], 350, axes.get_xlim()[1]]
    assert set(marks(figure)) == {0, 2}, "of each kernel its fastest configuration"
    for at in (*marks(figure).values(), (350, 700)):
        assert axes.get_xlim()[0] < at[0] < axes.get_xlim()[1]
        assert axes.get_ylim()[0] < at[1] < axes.get_ylim()[1]


def test_panels_share_their_scales(suites: dict[str, list[Record]]) -> None:
    frame = frame_of(suites["peers"])
    alone = [reach(found) for _, found in frame.groupby("dtype", sort=False)]
    together = np.concatenate([across for across, _ in alone]), np.concatenate([up for _, up in alone])
    looks = styles(frame["kernel"])
    with settings():
        figures = [roofline_plot(found, looks, reached=together) for _, found in frame.groupby("dtype", sort=False)]
        (drawing,) = roofline_drawings(frame, looks)
        assert drawing.panels == [svg(figure) for figure in figures if figure]
    assert len(drawing.panels) == 2
    assert len({(*figure.axes[0].get_xlim(), *figure.axes[0].get_ylim()) for figure in figures if figure}) == 1
    assert "All panels have the same scale." in drawing.caption


def test_a_panel_for_each_dtype_and_words_that_say_who_is_nearest(suites: dict[str, list[Record]]) -> None:
    frame = frame_of(suites["peers"])
    with settings():
        (drawing,) = roofline_drawings(frame, styles(frame["kernel"]))
    assert len(drawing.panels) == 2
    assert "ridge at 269 FLOP/byte" in drawing.alt
    assert "nearest to the ceiling is scatter at " in drawing.alt, "the dense reference does not compete"


def test_without_rates_or_with_one_trial_there_is_none(make: Make) -> None:
    for records in ([make("a", roofline=None), make("b", roofline=None)], [make("a")]):
        frame = frame_of(records)
        assert roofline_plot(frame, styles(frame["kernel"])) is None
        assert roofline_drawings(frame, styles(frame["kernel"])) == []
