"""Stacked bars show the stages of every kernel, and what no stage names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from drawn import boxes, dashed, frame_of, places, texts

from moebench.reports.plots.canvas import PANELS, settings
from moebench.reports.plots.kinds.stage_bars import PLACES, stage_bars, stage_drawings
from moebench.reports.plots.palette import styles
from moebench.results.record import CallStage, Phases, Record, Roofline, Stages

Make = Callable[..., Record]
PARTS: dict[CallStage, float] = {"route": 1e5, "dispatch": 2e5, "up": 4e5, "combine": 1e5}


def _staged(record: Record, whole: float = 1e6) -> Record:
    return record.model_copy(update={"stages": Stages(stages_ns=PARTS, whole_ns=whole)})


def test_the_boxes_of_a_bar_are_its_stages_and_the_rest(make: Make) -> None:
    records = [_staged(make("fast", ms=1.0)), _staged(make("slow", ms=2.0), whole=2e6)]
    frame = frame_of(records)
    figure = stage_bars(frame, styles(frame["kernel"]))
    assert figure is not None
    found = boxes(figure)
    for index, rest in ((0, 0.2), (1, 1.2)):
        widths = [2 * box.get_width() for record, box in found if record == index]
        assert widths == pytest.approx([0.1, 0.2, 0.4, 0.1, rest]), "the slowest bar, of 2 ms, is as long as the panel"
    assert {"1.00 ms", "2.00 ms"} <= set(texts(figure))
    looks = {(box.get_facecolor(), box.get_hatch()) for _, box in found}
    assert len(looks) == 5, "no two stages look alike, hatches included"


def test_the_bound_is_the_lowest_of_the_competitors_and_names_stand_beside_their_bars(make: Make) -> None:
    machines = [Roofline(flops_per_s=rate, bytes_per_s=1e15) for rate in (1e15, 5e14, 9e15)]
    kernels = ("fast", "slow", "dense")
    records = [
        _staged(make(kernel, ms=ms, roofline=machine), whole=1e6 * ms)
        for kernel, ms, machine in zip(kernels, (1.0, 2.0, 4.0), machines, strict=True)
    ]
    frame = frame_of(records)
    assert frame["record"].tolist() == [0, 1, 2]
    figure = stage_bars(frame, styles(frame["kernel"]))
    assert figure is not None
    (line,) = dashed(figure, ":")
    assert {x for x, _ in line} == {frame["bound_ms"].tolist()[0] / 4.0}
    for index, kernel in enumerate(kernels):
        (middle,) = {box.get_y() + box.get_height() / 2 for record, box in boxes(figure) if record == index}
        assert places(figure)[kernel][1] == pytest.approx(middle)
    with settings():
        (drawing,) = stage_drawings(frame, styles(frame["kernel"]))
    assert drawing.bound
    assert "The dotted line is the lower bound of the time." in drawing.caption


def test_facets_beyond_the_last_panel_are_said_to_be_in_the_table(make: Make) -> None:
    frame = frame_of([_staged(make("a", series=f"line {number}")) for number in range(PANELS + 1)])
    with settings():
        (drawing,) = stage_drawings(frame, styles(frame["kernel"]))
    assert len(drawing.panels) == PANELS
    assert "1 more facet is in the table only." in drawing.caption


def test_few_places_are_drawn_the_first_and_the_last_among_them(make: Make) -> None:
    records = [_staged(make("a", x=float(T))) for T in (1, 2, 4, 8, 16)]
    frame = frame_of(records)
    figure = stage_bars(frame, styles(frame["kernel"]))
    assert figure is not None
    assert {record for record, _ in boxes(figure)} == {0, 2, 4}
    assert PLACES == 3


def test_on_several_ranks_the_bar_is_of_means_over_the_ranks(make: Make) -> None:
    phases = Phases(
        compute_ns=[1e6, 3e6], communication_ns=[1e6, 1e6], waiting_ns=[2e6, 0.0], busy_ns=[1.0], exposed_ns=[1.0]
    )
    frame = frame_of([make("a").model_copy(update={"phases": phases})])
    with settings():
        figure = stage_bars(frame, styles(frame["kernel"]))
        (drawing,) = stage_drawings(frame, styles(frame["kernel"]))
    assert figure is not None
    assert [box.get_width() for _, box in boxes(figure)] == pytest.approx([0.5, 0.25, 0.25])
    assert "means over the ranks" in drawing.caption
    assert "at 1\u202f024, a spends 50.0 % on compute" in drawing.alt


def test_without_stages_there_is_no_plot(suites: dict[str, list[Record]]) -> None:
    frame = frame_of(suites["models"])
    assert stage_bars(frame, styles(frame["kernel"])) is None
    assert stage_drawings(frame, styles(frame["kernel"])) == []
