"""Plots show every facet, kernel and bound; they are the same for the same records and leave no global trace."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from collections.abc import Callable
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from moebench.reports.plots import plot
from moebench.reports.plots.canvas import TITLE, panel, wrapped
from moebench.reports.plots.drawing import Drawing
from moebench.reports.plots.drawings import drawings
from moebench.reports.plots.palette import COLOURS, MARKERS, styles
from moebench.reports.plots.sheet import sheet
from moebench.reports.section import Section, sections
from moebench.results.record import Record, Status
from moebench.results.references import NOT_COMPETING

Make = Callable[..., Record]


def _section(records: list[Record]) -> Section:
    (section,) = sections(records)
    return section


def _sheet(records: list[Record]) -> str:
    section = _section(records)
    return sheet(_drawings(section)[0], styles(section.kernels))


def _drawings(section: Section) -> list[Drawing]:
    return drawings(section, styles(section.kernels))


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
        assert len(_drawings(section)[0].panels) == panels


def test_words_stand_at_the_end_of_a_numeric_axis(suites: dict[str, list[Record]]) -> None:
    texts = _texts(_sheet(suites["capacity"]))
    assert texts.index("4") < texts.index("dropless")


def test_the_same_records_give_the_same_bytes(suites: dict[str, list[Record]]) -> None:
    assert _sheet(suites["capacity"]) == _sheet(suites["capacity"])


def test_settings_of_matplotlib_are_left_as_they_were(suites: dict[str, list[Record]]) -> None:
    before = dict(mpl.rcParams)
    _sheet(suites["models"])
    assert dict(mpl.rcParams) == before
    assert gc.isenabled()


def test_pyplot_is_never_imported() -> None:
    code = "import sys, moebench.reports.page; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_passed_nothing_drawn(make: Make) -> None:
    section = _section([make(status=Status.crashed)])
    assert _drawings(section) == []


def test_a_single_point_is_no_plot(make: Make) -> None:
    for x in (4.0, "one"):
        assert _drawings(_section([make(x=x)])) == []


def test_no_roofline_no_bound(make: Make) -> None:
    for x in (4.0, "one"):
        texts = _texts(_sheet([make("a", x=x, roofline=None), make("b", x=x, roofline=None)]))
        assert plot.BOUND not in texts


def test_a_dollar_a_bracket_and_a_foreign_letter_are_text(make: Make) -> None:
    name = r"$\frac{</text>$漢"
    assert name in _texts(_sheet([make(name, series=name, x=name), make("b", series=name, x=name)]))


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


def test_a_title_is_broken_where_its_panel_ends() -> None:
    title = "A model with a long name, D=256, T=4096, E=64, K=8, capacity factor 1 · float32 · forward · load zipf:1.2"
    lines = wrapped(title)
    assert " ".join(lines) == title
    assert max(map(len, lines)) <= TITLE


def test_the_marks_of_a_drawing_lead_to_their_records(suites: dict[str, list[Record]]) -> None:
    records = suites["tokens"]
    section = _section(records)
    looks = styles(section.kernels)
    drawing = drawings(section, looks)[0]
    drawn = 0
    for svg in drawing.panels:
        for group in re.findall(r'<g data-series="(\d+)" data-records="([\d ]+)">(.*?</g>)</g>', svg):
            kernel, indices = list(looks)[int(group[0])], [int(index) for index in group[1].split()]
            assert {records[index].kernel for index in indices} == {kernel}
            assert group[2].count("<use ") == len(indices)
            places = [float(x) for x in re.findall(r'<use [^>]* x="([\d.]+)"', group[2])]
            order = sorted(range(len(indices)), key=lambda at: float(records[indices[at]].point.x))
            assert sorted(places) == [places[at] for at in order], "marks are in the order of their records"
            drawn += len(indices)
    assert drawn == sum(record.timing is not None for record in records)


def test_axes_have_their_lines_at_their_ends() -> None:
    figure, axes = panel("a panel", height=2, left=0.5, bottom=0.5)
    axes.set(xlim=(-1, 1), ylim=(5, -5))
    box, ends = axes.get_window_extent(), {side: axes.spines[side].get_window_extent() for side in ("left", "bottom")}
    assert (ends["left"].x0 + ends["left"].x1) / 2 == pytest.approx(box.x0)
    assert (ends["bottom"].y0 + ends["bottom"].y1) / 2 == pytest.approx(box.y0)
    assert figure.axes == [axes]


def test_the_words_of_a_drawing_say_who_wins_where(suites: dict[str, list[Record]]) -> None:
    section = _section(suites["models"])
    time, *others = _drawings(section)
    assert "fastest of 5 places is triton_grouped at " in time.alt
    assert time.measure == "median (ms)"
    assert time.bound
    assert [drawing.measure for drawing in others][:4] == ["tokens/s", "useful TFLOP/s", "of bound (%)", "peak (MiB)"]
    assert "Useful FLOPs are equal" not in time.caption, "the models are of different widths"
