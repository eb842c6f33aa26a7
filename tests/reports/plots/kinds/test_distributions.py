"""Both sides of a comparison stand beside each other, over the old median of their point."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from drawn import places, texts

from moebench.reports.plots.canvas import settings, svg
from moebench.reports.plots.kinds.distributions import DOTS, ROWS, bands, distribution_drawings, distributions, reach
from moebench.reports.plots.palette import INK


def _frame(points: int = 1, samples: int = 11) -> pd.DataFrame:
    """Return samples about 2 ms on the old side and 2.2 ms on the new one."""
    spread = np.linspace(-0.1, 0.1, samples)
    return pd.DataFrame(
        [
            {"point": f"T={point}", "kernel": "loop", "side": side, "sample_ms": middle + off, "verdict": "slower"}
            for point in range(points)
            for side, middle in (("old", 2.0), ("new", 2.2))
            for off in spread
        ]
    )


def test_dots_are_samples_in_percent_of_the_old_median() -> None:
    figure = distributions(bands(_frame()))
    old, new = (line for line in figure.axes[0].lines if np.size(line.get_xdata()) == 11)
    assert np.asarray(old.get_xdata(), dtype=float) == pytest.approx(np.linspace(-5, 5, 11))
    assert np.asarray(new.get_xdata(), dtype=float) == pytest.approx(np.linspace(5, 15, 11))
    assert old.get_marker() != new.get_marker()
    assert {"loop", "T=0", "slower", "0"} <= set(texts(figure))


def test_the_line_of_a_side_is_its_middle_half_and_the_bar_its_median() -> None:
    found = bands(_frame(points=2))
    figure = distributions(found)
    ends = [np.asarray(line.get_xdata(), dtype=float) for line in figure.axes[0].lines if line.get_color() == INK]
    for level, one in enumerate(found):
        for side, samples in enumerate((one.old, one.new)):
            line, bar = ends[4 * level + 2 * side : 4 * level + 2 * side + 2]
            assert line == pytest.approx(np.quantile(samples, [0.25, 0.75]))
            assert bar == pytest.approx([np.median(samples)] * 2)
    for level in range(2):
        assert places(figure)[f"T={level}"][1] == pytest.approx(level, abs=0.2)


def test_panels_share_a_scale_and_what_the_points_share_is_in_the_title() -> None:
    frame = _frame(points=ROWS + 1)
    frame["point"] = "a layer · " + frame["point"]
    with settings():
        (drawing,) = distribution_drawings(frame)
        found = bands(frame)
        figures = [distributions(some, span=reach(found)) for some in (found[:ROWS], found[ROWS:])]
        assert drawing.panels == [svg(figure) for figure in figures]
    assert "All panels have the same scale." in drawing.caption
    assert "old against new · a layer" in texts(figures[0])
    assert "T=0" in texts(figures[0])


def test_of_many_samples_a_part_is_drawn_evenly_spread() -> None:
    figure = distributions(bands(_frame(samples=1001)))
    dots = [
        np.asarray(line.get_xdata(), dtype=float) for line in figure.axes[0].lines if np.size(line.get_xdata()) == DOTS
    ]
    assert len(dots) == 2
    assert dots[0][[0, -1]] == pytest.approx([-5, 5])


def test_the_words_are_the_verdicts_and_many_points_have_several_panels() -> None:
    with settings():
        (drawing,) = distribution_drawings(_frame(points=ROWS + 1))
    assert len(drawing.panels) == 2
    assert "loop at T=0: slower, the new median is +10.0 %." in drawing.alt


def test_a_side_alone_is_no_comparison() -> None:
    alone = _frame().query("side == 'new'")
    assert bands(alone) == []
    assert distribution_drawings(alone) == []


@pytest.mark.parametrize("ratio", [1 + 1e-9, 1.1, 25_000.0, 1e9, 1e15])
def test_any_ratio_of_the_sides_has_round_percents_that_are_within_the_panel(ratio: float) -> None:
    frame = _frame()
    frame.loc[frame["side"] == "new", "sample_ms"] = frame.loc[frame["side"] == "old", "sample_ms"].to_numpy() * ratio
    figure = distributions(bands(frame))
    span = figure.axes[0].get_xlim()[1]
    labels = [float(text) for text in texts(figure) if re.fullmatch(r"[-+]\d\S*|0", text)]
    assert 3 <= len(labels) <= 5
    assert labels == sorted(labels)
    assert max(labels) <= span <= 2.6 * max(labels)
