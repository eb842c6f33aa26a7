"""The map of winners is made of the places of a section, and of nothing that is no grid."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from drawn import frame_of, marks, places, texts
from hypothesis import given
from hypothesis import strategies as st

from moebench.reports.numbers import exact
from moebench.reports.plots.canvas import group_id, settings
from moebench.reports.plots.kinds.winner_map import Cell, map_drawings, winner_map, winners
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
    series = {text.get_text(): text.get_gid() for text in figure.axes[0].texts}
    assert series["b"] == series["by 50.0 %"] == group_id(1), "the legend hides the texts of a cell with its mark"


@given(st.lists(st.integers(0, 2), min_size=12, max_size=12), st.integers(2, 4))
def test_the_mark_of_a_winner_is_in_the_column_and_the_line_of_its_record(
    make: Make, winning: list[int], across: int
) -> None:
    """Test three kernels at 12 places, of which one takes 1 ms, the next 2 ms and the last 4 ms."""
    grid = [(float(T), f"load {L}") for L in range(12 // across) for T in (1, 8, 64, 512)[:across]]
    records = [
        make("abc"[kernel], x=T, series=load, ms=[[1.0, 2.0, 4.0][(kernel - first) % 3]] * 5, problem={"load": load})
        for (T, load), first in zip(grid, winning, strict=True)
        for kernel in range(3)
    ]
    frame = frame_of(records)
    figure = winner_map(frame, "load", styles(frame["kernel"]))
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first line is at the top"
    columns, lines = int(axes.get_xlim()[1]), int(axes.get_ylim()[0])
    labels = places(figure)
    at = {(int(x), int(y)): record for record, (x, y) in marks(figure).items()}
    assert len(at) == columns * lines == len(grid)
    for (x, y), record in at.items():
        named = {name for name, (here, there) in labels.items() if (here, there) in ((x + 0.5, 0), (0, y + 0.5))}
        assert named - {"tokens", "load"} == {exact(records[record].point.x), str(records[record].problem["load"])}
        assert records[record].timing == make("a", ms=[1.0] * 5).timing, "the fastest"
    assert {cell.margin for cell in winners(frame, "load")} == {100.0}, "over the second of three"


def test_experts_and_granularity_are_a_map_whose_title_has_what_the_lines_share(make: Make) -> None:
    records = [
        make(
            kernel,
            axis="granularity G",
            x=float(G),
            series=f"D=256, d_ff=4096, E={E} G, K=G",
            ms=ms * G,
            problem={"E": E * G, "K": G, "F": 4096 // G},
        )
        for E in (8, 64)
        for G in (1, 2, 4)
        for kernel, ms in (("a", 1.0), ("b", 2.0))
    ]
    frame = frame_of(records)
    with settings():
        (drawing,) = map_drawings(frame, styles(frame["kernel"]))
    assert ">E=8 G<" in drawing.panels[0]
    assert "D=256, d_ff=4096, K=G<" in drawing.panels[0]


def test_a_narrow_cell_has_the_margin_beside_the_mark() -> None:
    cells = [
        Cell("1", "2", "a_kernel", 0, margin, tied) for margin, tied in ((2.34, True), (34.5, False), (None, False))
    ]
    assert [cell.lines(8) for cell in cells] == [("2.3 %", "tied"), ("34 %", ""), ("alone", "")]
    assert [cell.lines(12)[0] for cell in cells] == ["a_kernel"] * 3
    assert [cell.lines(12)[1] for cell in cells] == ["tied, 2.34 %", "by 34.5 %", "alone"]


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
