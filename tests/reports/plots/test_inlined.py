"""SVGs in a page have no style of their own, the page's colours, and ids that no other SVG has."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from moebench.reports.plots import plot
from moebench.reports.plots.inlined import PlotStyles
from moebench.reports.plots.palette import styles

CROSS = (
    '<svg width="10pt" height="9pt"><defs><path id="a" style="fill: #1f2328"/></defs><use href="#a" style="{}"/></svg>'
)


def test_a_style_becomes_a_class_and_equal_ones_the_same() -> None:
    sheet = PlotStyles()
    one, other = sheet.inlined(CROSS.format("fill: red"), "p1"), sheet.inlined(CROSS.format("fill: blue"), "p2")
    assert "style=" not in one + other
    classes = [re.findall(r'class="(\w+)"', svg) for svg in (one, other)]
    assert classes[0][0] == classes[1][0]
    assert classes[0][1] != classes[1][1]
    assert f".{classes[0][1]}{{fill: red}}" in sheet.css
    assert f".{classes[1][1]}{{fill: blue}}" in sheet.css
    assert f".{classes[0][0]}{{fill: var(--ink)}}" in sheet.css


def test_a_class_that_is_there_already_stays() -> None:
    sheet = PlotStyles()
    assert 'class="series m0"' in sheet.inlined('<svg><g class="series" style="fill: red"/></svg>', "p")


def test_ids_are_kept_apart_and_sizes_left_to_the_page() -> None:
    first, second = (PlotStyles().inlined(CROSS.format("clip-path: url(#a)"), prefix) for prefix in ("p1", "p2"))
    for svg, prefix in ((first, "p1"), (second, "p2")):
        assert f'id="{prefix}-a"' in svg
        assert f'href="#{prefix}-a"' in svg
        assert "pt" not in svg


def test_a_stylesheet_of_all_elements_moves_into_the_page_and_another_is_refused() -> None:
    sheet = PlotStyles()
    svg = "<svg><defs><style>*{stroke-linejoin: round}</style></defs><g/></svg>"
    assert sheet.inlined(svg, "p") == sheet.inlined(svg, "p") == "<svg><g/></svg>"
    assert sheet.css == ".plot *{stroke-linejoin: round}\n"
    with pytest.raises(ValueError, match="one rule of all elements"):
        sheet.inlined("<svg><style>path{fill: red}</style></svg>", "p")


def test_plots_of_matplotlib_are_whole_after_it() -> None:
    """Text of a name that looks like a style is text."""
    sheet = PlotStyles()
    for style in styles([' style="fill: red"', "a", "b"]).values():
        svg = sheet.inlined(plot.swatch(style), "p")
        root = ET.fromstring(svg)  # noqa: S314  # drawn by the code under test
        assert all(item.get("style") is None for item in root.iter())
        asked, ids = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)), set(re.findall(r'\bid="([^"]+)', svg))
        assert asked <= ids
