"""The roofline puts every trial where its work and its rate say, under the ceilings that were measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from drawn import frame_of, marks, texts

from moebench.reports.plots.canvas import settings
from moebench.reports.plots.kinds.roofline_plot import roofline_drawings, roofline_plot
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
