"""Plots show every facet, kernel and bound; they are the same for the same records and leave no global trace."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from moebench.reports.plots import plot
from moebench.reports.plots.palette import COLOURS, MARKERS, styles
from moebench.reports.plots.panel import title
from moebench.reports.section import Section, sections
from moebench.results.record import Record, Status
from moebench.results.references import NOT_COMPETING

Make = Callable[..., Record]


def _section(records: list[Record]) -> Section:
    (section,) = sections(records)
    return section


def _sheet(records: list[Record]) -> str:
    section = _section(records)
    drawn = plot.sheet(section, styles(section.kernels))
    assert drawn is not None
    return drawn


def _texts(svg: str) -> list[str]:
    root = ET.fromstring(svg)  # noqa: S314  # drawn by the code under test
    return [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", ["tokens", "capacity", "models", "peers", "parallel"])
def test_a_sheet_names_axis_unit_kernels_and_bound(suites: dict[str, list[Record]], name: str) -> None:
    records = suites[name]
    texts = _texts(_sheet(records))
    assert "median time (ms)" in texts
    assert records[0].point.axis in texts
    assert plot.BOUND in texts
    assert {record.kernel for record in records if record.timing} <= set(texts)


def test_one_panel_a_line_family_dtype_and_mode(suites: dict[str, list[Record]]) -> None:
    for name, panels in (("tokens", 2), ("capacity", 1), ("models", 1), ("peers", 2)):
        section = _section(suites[name])
        assert len(plot.panels(section, styles(section.kernels))) == panels


def test_words_stand_at_the_end_of_a_numeric_axis(suites: dict[str, list[Record]]) -> None:
    texts = _texts(_sheet(suites["capacity"]))
    assert texts.index("4") < texts.index("dropless")


def test_the_same_records_give_the_same_bytes(suites: dict[str, list[Record]]) -> None:
    assert _sheet(suites["capacity"]) == _sheet(suites["capacity"])


def test_settings_of_matplotlib_are_left_as_they_were(suites: dict[str, list[Record]]) -> None:
    before = dict(mpl.rcParams)
    _sheet(suites["models"])
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_imported() -> None:
    code = "import sys, moebench.reports.page; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_passed_nothing_drawn(make: Make) -> None:
    section = _section([make(status=Status.crashed)])
    assert plot.panels(section, styles(section.kernels)) == []
    assert plot.sheet(section, styles(section.kernels)) is None


def test_one_point_and_no_roofline_are_drawn(make: Make) -> None:
    for x in (4.0, "one"):
        texts = _texts(_sheet([make(x=x, roofline=None)]))
        assert plot.BOUND not in texts


def test_a_dollar_a_bracket_and_a_foreign_letter_are_text(make: Make) -> None:
    name = r"$\frac{</text>$漢"
    assert name in _texts(_sheet([make(name, series=name, x=name)]))


def test_an_inlined_plot_takes_the_page_colours_and_keeps_its_ids_apart(suites: dict[str, list[Record]]) -> None:
    first, second = (plot.inlined(_sheet(suites["capacity"]), prefix) for prefix in ("p1", "p2"))
    assert first.startswith("<svg")
    assert "var(--ink" in first
    ids = [{item.get("id") for item in ET.fromstring(svg).iter()} - {None} for svg in (first, second)]  # noqa: S314
    assert ids[0]
    assert not ids[0] & ids[1]
    used = {part.split(")")[0] for part in first.split("url(#")[1:]}
    assert used
    assert used <= ids[0]


def test_no_two_kernels_look_alike_even_without_colour() -> None:
    found = styles(f"kernel{number:02}" for number in range(2 * len(MARKERS)))
    competitors = [style for name, style in found.items() if name not in NOT_COMPETING]
    assert len({(style.marker, style.hollow) for style in competitors}) == len(competitors) == 2 * len(MARKERS)
    assert {style.colour for style in competitors} == set(COLOURS)


def test_references_are_dashed_and_told_apart() -> None:
    found = styles(["a", *NOT_COMPETING])
    assert {found[name].line for name in NOT_COMPETING} == {"--"}
    assert len({found[name].marker for name in NOT_COMPETING}) == len(NOT_COMPETING)
    assert found["a"].line == "-"


def test_an_svg_says_nothing_twice_and_every_reference_is_there(suites: dict[str, list[Record]]) -> None:
    svg = _sheet(suites["capacity"])
    ids, asked = set(re.findall(r'\bid="([^"]+)"', svg)), set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    assert asked <= ids
    assert all(len(name) <= 4 for name in ids)
    assert "\n " not in svg[svg.index("<svg") :]
    assert not re.search(r'="[^"]*\d\.\d{3}', svg)


def test_a_title_is_broken_where_its_panel_ends(make: Make) -> None:
    series = "A model with a long name, D=256, T=4096, E=64, K=8, capacity factor 1"
    rows = sections([make(series=series, x="sigmoid_topk:groups=8,top_groups=4")])[0].rows
    lines = title(rows[0].place.facet, rows).splitlines()
    assert " ".join(lines) == rows[0].place.facet.title
    assert len(lines) > 2
