"""Scaling shows measured and predicted times over ranks, and what ideal scaling would take."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from drawn import frame_of, intervals, marks, texts

from moebench.reports.plots.canvas import settings, svg
from moebench.reports.plots.kinds.scaling_plot import STRONG, WEAK, scaling_drawings, scaling_plot, spanned, way
from moebench.reports.plots.palette import styles
from moebench.results.record import Record

Make = Callable[..., Record]
NO_PREDICTIONS = pd.DataFrame(columns=["facet", "kernel", "ranks", "ms", "machine"])


def _records(make: Make, *, weak: bool) -> list[Record]:
    return [
        make(
            kernel,
            axis="ranks",
            x=float(ranks),
            ms=ms * ranks,
            problem={"ranks": ranks, "T": 512 * (ranks if weak else 1)},
        )
        for ranks in (1, 2, 4)
        for kernel, ms in (("a", 1.0), ("b", 2.0))
    ]


@pytest.mark.parametrize(("weak", "ideal"), [(True, (1, 1, 1)), (False, (1, 1 / 2, 1 / 4))])
def test_ideal_scaling_starts_from_the_fastest_on_the_fewest_ranks(
    make: Make, weak: bool, ideal: tuple[float, ...]
) -> None:
    frame = frame_of(_records(make, weak=weak))
    assert way(frame) == (WEAK if weak else STRONG)
    figure = scaling_plot(frame, NO_PREDICTIONS, styles(frame["kernel"]))
    assert figure is not None
    (line,) = (line for line in figure.axes[0].lines if line.get_gid() is None and line.get_linestyle() == "--")
    fastest = frame.loc[frame["kernel"] == "a", "median_ms"].min()
    assert np.asarray(line.get_ydata(), dtype=float) / fastest == pytest.approx(ideal)
    assert {index: at[1] for index, at in marks(figure).items()} == dict(
        zip(frame["record"], frame["median_ms"], strict=True)
    )
    assert "ideal" in texts(figure)
    (bound,) = (line for line in figure.axes[0].lines if line.get_linestyle() == ":")
    known = frame.drop_duplicates("x")["bound_ms"]
    assert np.asarray(bound.get_ydata(), dtype=float) == pytest.approx(known.to_numpy())


def test_times_of_the_fastest_configurations_have_intervals_and_are_joined_in_order(make: Make) -> None:
    spread = np.linspace(0.8, 1.2, 30)
    records = [
        make("a", axis="ranks", x=float(ranks), ms=list(ms * spread), problem={"ranks": ranks}, config={"tile": tile})
        for ranks, tile, ms in ((8, 1, 1.0), (2, 1, 3.0), (4, 1, 2.0), (2, 2, 9.0))
    ]
    frame = frame_of(records)
    figure = scaling_plot(frame, NO_PREDICTIONS, styles(["a"]))
    assert figure is not None
    assert set(marks(figure)) == {0, 1, 2}
    best = frame[frame["best"]].sort_values("x")
    ends = [(low[1], high[1]) for low, high in intervals(figure)]
    assert ends == list(zip(best["low_ms"], best["high_ms"], strict=True))
    (line,) = (line for line in figure.axes[0].lines if line.get_gid() == "series-0" and np.size(line.get_xdata()) == 3)
    assert np.asarray(line.get_xdata()).tolist() == [2, 4, 8]
    assert np.asarray(line.get_ydata()).tolist() == pytest.approx([3, 2, 1])


def test_panels_share_their_scales_and_ranks_and_leave_room_for_the_word_at_the_ideal(make: Make) -> None:
    records = [
        make("a", axis="ranks", x=float(ranks), series=series, ms=4.0 / ranks, problem={"ranks": ranks})
        for series, most in (("few", 4), ("many", 8))
        for ranks in (1, 2, 4, 8)
        if ranks <= most
    ]
    frame = frame_of(records)
    facets = [found for _, found in frame.groupby("facet", sort=False)]
    together = np.concatenate([spanned(found, NO_PREDICTIONS) for found in facets])
    looks, ranks = styles(["a"]), [1.0, 2.0, 4.0, 8.0]
    with settings():
        (drawing,) = scaling_drawings(frame, NO_PREDICTIONS, looks)
        figures = [scaling_plot(found, NO_PREDICTIONS, looks, places=ranks, values=together) for found in facets]
        assert drawing.panels == [svg(figure) for figure in figures if figure]
    assert "All panels have the same scale." in drawing.caption
    assert together.min() < 0.5, "ideal scaling takes as long as the last mark"


def test_predictions_go_on_hollow_and_dashed_behind_a_line(make: Make) -> None:
    frame = frame_of(_records(make, weak=True))
    facet = frame["facet"].iloc[0]
    ahead = pd.DataFrame(
        [{"facet": facet, "kernel": "a", "ranks": n, "ms": 1.0 + n, "machine": "far"} for n in (4, 8, 16)]
    )
    looks = styles(frame["kernel"])
    figure = scaling_plot(frame, ahead, looks)
    assert figure is not None
    hollow = [line for line in figure.axes[0].lines if list(line.get_ydata()) == [5.0, 9.0, 17.0]]  # type: ignore[arg-type]
    assert len(hollow) == 2, "a line and its marks"
    assert {"measured", "predicted", "16"} <= set(texts(figure))
    with settings():
        (drawing,) = scaling_drawings(frame, ahead, looks)
    assert "a is fastest on 4 ranks" in drawing.alt
    assert "predicted on 16 ranks: a at 17.0 ms" in drawing.alt
    assert "far" in drawing.caption


def test_an_axis_of_something_else_or_of_one_number_of_ranks_has_none(make: Make) -> None:
    for records in (_records(make, weak=True)[:2], [make("a", x=float(T), problem={"ranks": 2}) for T in (8, 16)]):
        frame = frame_of(records)
        assert scaling_drawings(frame, NO_PREDICTIONS, styles(frame["kernel"])) == []
