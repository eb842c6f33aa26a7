"""Convergence: how far the best configuration of a search is from the best that is known, by trials and by seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...numbers import exact, number
from ..canvas import BOTTOM, PANELS, legend, legend_height, panel, svg
from ..drawing import Drawing, left_out
from ..marks import KernelMarks
from ..palette import COLOURS, LINES, MARKERS, PANEL, Style
from ..quantity import column, words
from ..scale import Floats, axis_title, ticks, value_axis

REGRETS: Final = (0, 1, 3, 10, 30, 100, 300, 1000, 10_000)  # percent, at their logarithms less those below 1
X_AXES: Final = {"trial": "trials", "second": "seconds of trials"}
FEWEST: Final = 2  # trials of which there is a course


@dataclass(frozen=True)
class Course:
    """The course of one search: after each of its trials, the regret in percent of the best that is known.

    ``record`` is the index of the trial that was the best at the time, ``best`` the time of the best that is known over
    that of the default.
    """

    kernel: str
    T: float
    trial: Floats
    second: Floats
    regret: Floats
    record: Sequence[int]
    best: float

    @property
    def words(self) -> str:
        return (
            f"{self.kernel}, T = {exact(self.T)}: after {exact(float(self.trial[-1]))} trials and "
            f"{number(self.second[-1])} s {number(self.regret[-1])} % from the best known, which takes "
            f"{number(self.best)} times the default"
        )


def courses(frame: pd.DataFrame) -> list[Course]:
    """Return the courses of the searches on one layer, by kernel and tokens.

    Times are taken over those of the default in the same batch, which was sampled in turn with them: batches that are
    minutes apart differ by more than configurations do. A configuration counts as a trial once, when it was first
    tried; failures count. The best that is known is of all trials of the kernel on the problem, those of later
    comparisons included.
    """
    sized = frame.assign(T=column(frame, "T")).dropna(subset="T")
    return [
        course
        for _, rows in sized.groupby(["kernel", "T"], sort=True)
        if (course := _course(words(rows, "kernel")[0], float(column(rows, "T")[0]), rows))
    ]


def _course(kernel: str, tokens: float, rows: pd.DataFrame) -> Course | None:
    rows = rows.sort_values("time", kind="stable")
    score = _over_default(rows)
    searched = rows["stage"].to_numpy() == "search"
    ratio, trials = score[searched], rows[searched]
    if np.isfinite(ratio).sum() < FEWEST:
        return None
    so_far = np.fmin.accumulate(np.where(np.isfinite(ratio), ratio, np.inf))
    known = np.isfinite(so_far)
    leader = np.maximum.accumulate(np.where(ratio == so_far, np.arange(len(ratio)), 0))
    best = float(np.nanmin(score))
    return Course(
        kernel=kernel,
        T=tokens,
        trial=np.cumsum(~trials["config"].duplicated().to_numpy(dtype=bool))[known].astype(float),
        second=np.cumsum(column(trials, "wall_s"))[known],
        regret=100 * (so_far[known] / best - 1),
        record=trials["record"].to_numpy()[leader[known]].tolist(),
        best=best,
    )


def _over_default(rows: pd.DataFrame) -> Floats:
    """Return the times of trials over that of the default in their batch, NaN where either has none.

    The default is the configuration that most batches have.
    """
    batch = rows["stage"].astype(str) + " " + rows["batch"].astype(str)
    default = batch.groupby(rows["config"]).nunique().idxmax()
    times = pd.Series(column(rows, "median_ms"), index=rows.index)
    of_default = times.where(rows["config"] == default)
    found: Floats = (times / of_default.groupby(batch).transform("median")).to_numpy(dtype=float)
    return found


def convergence(
    found: Sequence[Course],
    styles: Mapping[str, Style],
    *,
    against: str,
    title: str,
    beside: Sequence[Course] = (),
) -> Figure:
    """Return the figure of the searches on one layer against ``trial`` or ``second``.

    ``beside`` are the searches of the panels that share its axes.
    """
    alike = len({one.kernel for one in found}) == 1
    names = [f"{'' if alike else one.kernel + ', '}T = {exact(one.T)}" for one in found]
    figure, axes = panel(title, label="regret (%)", bottom=BOTTOM + legend_height(names))
    every = beside or found
    spent = [getattr(one, against) for one in every]
    value_axis(axes, "x", np.array([min(x[0] for x in spent), max(x[-1] for x in spent)]))
    _regret_axis(axes, max(one.regret.max() for one in every))
    handles: list[Artist] = []
    for order, one in enumerate(found):
        look = Style(COLOURS[order % 6], MARKERS[order % 11], hollow=order >= 11, line=LINES[order // 6 % 2])
        x = getattr(one, against)
        marks = KernelMarks(styles, one.kernel, look)
        marks.step(axes, x, _level(one.regret))
        better = np.concatenate([[True], np.diff(one.regret) < 0])
        marks.marks(axes, x[better], _level(one.regret)[better], np.asarray(one.record)[better].tolist(), size=4.5)
        handles.append(_key(look))
    axis_title(axes, X_AXES[against])
    legend(figure, handles, names)
    return figure


def _key(look: Style) -> Line2D:
    fill = PANEL if look.hollow else look.colour
    return Line2D(
        [], [], color=look.colour, marker=look.marker, markersize=4.5, markerfacecolor=fill, linestyle=look.line
    )


def _level(regret: Floats) -> Floats:
    """Return where a regret in percent is on its axis, which is linear about 0 and logarithmic above 1."""
    found: Floats = np.log1p(regret)
    return found


def _regret_axis(axes: Axes, largest: float) -> None:
    shown = [value for value in REGRETS if value <= max(largest, 1)]
    shown += REGRETS[len(shown) : len(shown) + 1]  # the next, so that the largest regret is between two numbers
    ticks(axes, "y", _level(np.array(shown, dtype=float)).tolist(), [exact(float(value)) for value in shown], grid=True)
    axes.set_ylim(-0.12, float(_level(np.array([max(shown[-1], largest)]))[0]) * 1.03)


def convergence_drawings(frame: pd.DataFrame, styles: Mapping[str, Style]) -> list[Drawing]:
    """Return the drawing of the searches of a section, two panels for each layer, none without a search."""
    if not frame["stage"].notna().any():
        return []
    layers = {str(layer): found for layer, one in frame.groupby("layer", sort=False) if (found := courses(one))}
    if not layers:
        return []
    drawn = dict(zip(_titles(list(layers), frame), list(layers.values())[: PANELS // 2], strict=False))
    every = [course for found in drawn.values() for course in found]
    said = (
        "How much slower the best configuration so far is than the best that is known, of all stages of the search, "
        "both over the default beside them. Marks are the trials that found a better one; the axis is logarithmic "
        "above 1 %.",
        f"All panels have the same scale of regret, of {' and of '.join(X_AXES.values())}." if len(drawn) > 1 else "",
        left_out(len(layers) - len(drawn), "layer"),
    )
    return [
        Drawing(
            name="convergence",
            title="Convergence of the search",
            alt=" ".join(f"{title}: {'; '.join(one.words for one in found)}." for title, found in drawn.items()),
            caption=" ".join(filter(None, said)),
            panels=[
                svg(convergence(found, styles, against=against, title=title, beside=every))
                for title, found in drawn.items()
                for against in X_AXES
            ],
            kernels=sorted({course.kernel for course in every}),
        )
    ]


def _titles(layers: Sequence[str], frame: pd.DataFrame) -> list[str]:
    """Return the name of each layer: the kernel, and the parts in which layers differ."""
    parts = [layer.split(" · ") for layer in layers]
    common = set(parts[0]).intersection(*parts[1:]) if len(parts) > 1 else set()
    kernels = ", ".join(sorted(frame["kernel"].unique()))
    return [" · ".join([kernels, *(part for part in one if part not in common)]) for one in parts]
