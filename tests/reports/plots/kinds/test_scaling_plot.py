"""Scaling shows measured and predicted times over ranks, and what ideal scaling would take."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from drawn import frame_of, marks, texts

from moebench.reports.plots.canvas import settings
from moebench.reports.plots.kinds.scaling_plot import STRONG, WEAK, scaling_drawings, scaling_plot, way
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
