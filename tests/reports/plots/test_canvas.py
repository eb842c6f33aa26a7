"""The canvas measures texts once and writes legends row by row."""

from __future__ import annotations

import re

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moebench.reports.plots import canvas
from moebench.reports.plots.canvas import WIDTH, legend, panel, settings, svg


@pytest.mark.parametrize("count", range(1, 10))
def test_a_legend_is_read_row_by_row(count: int) -> None:
    names = [f"stage {number}" for number in range(count)]
    with settings():
        figure = Figure(figsize=(WIDTH, 2))
        legend(figure, [Line2D([], []) for _ in names], names)
        found = re.findall(r'<text[^>]*transform="translate\(([\d.]+) ([\d.]+)\)"[^>]*>([^<]+)<', _placed(svg(figure)))
    read = sorted((float(y), float(x), name) for x, y, name in found)
    assert [name for _, _, name in read] == names


def _placed(text: str) -> str:
    """Return an SVG whose texts say where they are in one way."""
    return re.sub(r' x="([\d.]+)" y="([\d.]+)"', r' transform="translate(\1 \2)"', text)


def test_a_text_is_measured_once_for_all_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas, "_extents", {})
    with settings():
        first = svg(panel("the same title")[0])
        measured = dict(canvas._extents)
        assert svg(panel("the same title")[0]) == first
    assert measured
    assert canvas._extents == measured


def test_no_more_texts_are_kept_than_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas, "_extents", {})
    monkeypatch.setattr(canvas, "KEPT_TEXTS", 3)
    with settings():
        for number in range(10):
            svg(panel(f"title {number}")[0])
            assert len(canvas._extents) <= 3
