"""The map of winners is made of the places of a section, and of nothing that is no grid."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from drawn import frame_of, texts

from moebench.reports.plots.canvas import settings
from moebench.reports.plots.kinds.winner_map import map_drawings, winner_map, winners
from moebench.reports.plots.palette import styles
from moebench.results.record import Record

Make = Callable[..., Record]


def _grid(make: Make) -> list[Record]:
    """Two numbers of tokens under two loads: b wins where both are large, and the two tie where both are small."""
    return [
        make(kernel, x=float(T), series=load, ms=[ms] * 5 if T > 1 else [ms, 1.1 * ms], problem={"T": T, "load": load})
        for T in (1, 64)
        for load in ("uniform", "zipf:1")
        for kernel, ms in (("a", 1.0 if (T, load) != (64, "zipf:1") else 3.0), ("b", 1.02 if T == 1 else 2.0))
    ]


def test_every_cell_names_the_winner_its_margin_and_ties(make: Make) -> None:
    frame = frame_of(_grid(make))
    found = {(cell.across, cell.down): cell for cell in winners(frame, "load")}
    assert [found["64", load].kernel for load in ("uniform", "zipf:1")] == ["a", "b"]
    assert found["64", "uniform"].margin == pytest.approx(100)
    assert found["64", "zipf:1"].margin == pytest.approx(50)
    assert not found["64", "uniform"].tied
    assert found["1", "uniform"].tied
    figure = winner_map(frame, "load", styles(frame["kernel"]))
    assert figure is not None
    assert {"by 100 %", "by 50.0 %", "tied, 2.00 %", "uniform", "zipf:1"} <= set(texts(figure))


def test_the_pair_is_found_in_the_data_and_the_words_count_the_cells(make: Make) -> None:
    frame = frame_of(_grid(make))
    with settings():
        (drawing,) = map_drawings(frame, styles(frame["kernel"]))
    assert "of 4 cells, a 3, b 1" in drawing.alt
    assert "2 tied" in drawing.alt
    assert drawing.panels[0].count("data-records=") == 4


def test_what_is_no_grid_of_two_by_two_has_no_map(make: Make, suites: dict[str, list[Record]]) -> None:
    for records in (suites["capacity"], suites["models"], _grid(make)[:4], [make("a")]):
        frame = frame_of(records)
        assert map_drawings(frame, styles(frame["kernel"])) == []


def test_lines_of_several_models_are_named_by_the_line_and_not_by_one_of_their_sizes(make: Make) -> None:
    records = [
        make(kernel, x=float(T), series=model, ms=ms, problem={"T": T, "E": E, "K": K})
        for T in (1, 64)
        for model, E, K in (("wide", 8, 2), ("narrow", 128, 8))
        for kernel, ms in (("a", 1.0), ("b", 2.0))
    ]
    frame = frame_of(records)
    with settings():
        (drawing,) = map_drawings(frame, styles(frame["kernel"]))
    assert "narrow" in drawing.panels[0]
