"""Scaling: time over numbers of ranks, measured and predicted, beside what ideal scaling would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...numbers import counted, exact, number
from ..canvas import PANELS, panel, svg
from ..drawing import Drawing, left_out, scale_words
from ..marks import KernelMarks, draw_bound, draw_line
from ..palette import INK, MUTED, Style
from ..quantity import column, flags, words
from ..scale import Floats, place_axis, positions, shared, value_axis

STRONG: Final = "strong scaling"  # as many tokens in all
WEAK: Final = "weak scaling"  # as many tokens on each rank
ROOM: Final = 1.2  # times below the line of ideal scaling that an axis reaches


def scaling_plot(
    frame: pd.DataFrame,
    predicted: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    places: Sequence[float] = (),
    values: Floats | None = None,
) -> Figure | None:
    """Return the figure of one facet, None where its axis is not of ranks or has one number of them.

    ``frame`` are the trials of the facet, ``predicted`` its predictions as `prediction_frame` returns them. ``places``
    are the numbers of ranks of all panels that share its axis, ``values`` what these show on the axis of times.
    """
    rows = _measured(frame)
    numbers = ranks_of(rows, predicted)
    if rows.empty or len(numbers) < 2:
        return None
    at = positions(list(places or numbers), [])
    title = " · ".join(filter(None, (words(frame, "facet")[0], way(rows))))
    figure, axes = panel(title, label="time (ms)")
    value_axis(axes, "y", spanned(rows, predicted) if values is None else values)
    for kernel in sorted(set(words(rows, "kernel"))):
        here, ahead = rows[rows["kernel"] == kernel], predicted[predicted["kernel"] == kernel]
        _draw_kernel(axes, KernelMarks(styles, kernel), here, ahead, at)
    bound = bounds(rows)
    draw_bound(axes, [at[ranks] for ranks in bound], list(bound.values()))
    ideal = ideal_ms(rows, numbers, way(rows))
    if np.isfinite(ideal).all():
        draw_line(axes, [at[ranks] for ranks in numbers], ideal, color=INK, linewidth=1, linestyle=(0, (6, 2, 1, 2)))
        end = (at[numbers[-1]], float(ideal[-1]))
        axes.annotate("ideal", end, (0, -3), textcoords="offset points", ha="right", va="top", color=MUTED)
    _boundary(axes, at, float(column(rows, "ranks").max()))
    place_axis(axes, at, "ranks")
    return figure


def _draw_kernel(
    axes: Axes, marks: KernelMarks, here: pd.DataFrame, ahead: pd.DataFrame, at: Mapping[float | str, float]
) -> None:
    """Draw what a kernel took ``here``, with intervals, and hollow on a dashed line what is predicted ``ahead``."""
    later = [at[ranks] for ranks in column(ahead, "ranks").tolist()]
    marks.line(axes, later, column(ahead, "ms"), linestyle="--", linewidth=1)
    marks.marks(axes, later, column(ahead, "ms"), (), size=4.5, hollow=True)
    places = np.array([at[ranks] for ranks in column(here, "ranks").tolist()])
    marks.line(axes, places, column(here, "median_ms"))
    marks.intervals(axes, places, column(here, "low_ms"), column(here, "high_ms"))
    marks.marks(axes, places, column(here, "median_ms"), here["record"].tolist())


def ranks_of(rows: pd.DataFrame, predicted: pd.DataFrame) -> list[float]:
    """Return the numbers of ranks for which there is a time, measured or predicted."""
    return sorted({*column(rows, "ranks").tolist(), *column(predicted, "ranks").tolist()})


def spanned(rows: pd.DataFrame, predicted: pd.DataFrame) -> Floats:
    """Return every value that a panel must show, with room for a word under the line of ideal scaling."""
    ideal = ideal_ms(rows, ranks_of(rows, predicted), way(rows))
    times = [column(rows, name) for name in ("median_ms", "low_ms", "high_ms")]
    found = np.concatenate([*times, column(predicted, "ms"), ideal / ROOM, np.array([*bounds(rows).values()])])
    finite: Floats = found[np.isfinite(found)]
    return finite


def _measured(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the fastest configurations with a time, where the place on the axis is the number of ranks."""
    x, ranks = column(frame, "x"), column(frame, "ranks")
    shown = np.isfinite(column(frame, "median_ms")) & flags(frame, "best") & flags(frame, "numeric")
    found: pd.DataFrame = frame[shown & (x == ranks) & (ranks > 0)]
    return found


def bounds(rows: pd.DataFrame) -> dict[float, float]:
    """Return the lower bound of the competitors at each number of ranks where it is known."""
    known = rows[flags(rows, "competes") & np.isfinite(column(rows, "bound_ms"))]
    found: dict[float, float] = {}
    for ranks, bound in sorted(zip(column(known, "ranks").tolist(), column(known, "bound_ms").tolist(), strict=True)):
        found.setdefault(ranks, bound)
    return found


def way(rows: pd.DataFrame) -> str:
    """Return how the problem grows with the ranks in words, empty where it does neither."""
    tokens, ranks = column(rows, "T"), column(rows, "ranks")
    if len(set(ranks.tolist())) < 2:
        return ""
    if len(set(tokens.tolist())) == 1:
        return STRONG
    return WEAK if len(set((tokens / ranks).tolist())) == 1 else ""


def ideal_ms(rows: pd.DataFrame, numbers: list[float], kind: str) -> Floats:
    """Return the time of ideal scaling at numbers of ranks, NaN where it is not known how the problem grows.

    It starts from the fastest competitor on the fewest ranks: constant with as many tokens a rank, inversely
    proportional to the ranks with as many in all.
    """
    ranks, times = column(rows, "ranks"), column(rows, "median_ms")
    few = flags(rows, "competes") & (ranks == ranks.min())
    if not kind or not few.any():
        return np.full(len(numbers), np.nan)
    start = float(times[few].min())
    grown = np.asarray(numbers) / ranks.min()
    found: Floats = np.full(len(numbers), start) if kind == WEAK else start / grown
    return found


def _boundary(axes: Axes, at: Mapping[float | str, float], last: float) -> None:
    """Draw a line behind the last place that was measured, with a word on either side."""
    later = [tick for x, tick in at.items() if float(x) > last]
    if not later:
        return
    edge = (at[last] + min(later)) / 2
    draw_line(axes, [edge] * 2, axes.get_ylim(), color=MUTED, linewidth=1)
    for word, side, shift in (("measured", "right", -4), ("predicted", "left", 4)):
        axes.annotate(
            word,
            (edge, 1),
            (shift, 0),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha=side,
            va="top",
            color=MUTED,
            fontsize=8.5,
        )


def scaling_drawings(frame: pd.DataFrame, predicted: pd.DataFrame, styles: Mapping[str, Style]) -> list[Drawing]:
    """Return the scaling of a section, none where its axis is not of ranks."""
    facets = [
        (_measured(one), predicted[predicted["facet"] == facet]) for facet, one in frame.groupby("facet", sort=False)
    ]
    scaled = [(rows, ahead) for rows, ahead in facets if len(rows) and len(ranks_of(rows, ahead)) > 1]
    drawn = scaled[:PANELS]
    if not drawn:
        return []
    places = _shared_places([ranks_of(rows, ahead) for rows, ahead in drawn])
    values = shared([spanned(rows, ahead) for rows, ahead in drawn])
    figures = [scaling_plot(rows, ahead, styles, places=places, values=values) for rows, ahead in drawn]
    machines = ", ".join(sorted(set(predicted["machine"])))
    bound = any(bounds(rows) for rows, _ in drawn)
    said = (
        "Median time with its 95 % interval over the number of ranks. Weak scaling has as many tokens on each rank, "
        "strong scaling as many in all; the dash-dotted line is ideal, from the fastest on the fewest ranks.",
        "The dotted line is the lower bound of the time." if bound else "",
        f"Hollow marks on dashed lines are predictions for {machines}." if machines else "",
        scale_words(len(drawn), alike=values is not None),
        left_out(len(scaled) - len(drawn), "facet"),
    )
    return [
        Drawing(
            name="scaling",
            title="Scaling",
            alt=" ".join(_words(rows, ahead) for rows, ahead in drawn),
            caption=" ".join(filter(None, said)),
            panels=[svg(figure) for figure in figures if figure],
            kernels=sorted({kernel for rows, _ in drawn for kernel in words(rows, "kernel")}),
            bound=bound,
        )
    ]


def _shared_places(panels: Sequence[Sequence[float]]) -> list[float]:
    """Return the numbers of ranks of all panels, or none where one has less than half of them."""
    together = sorted({ranks for numbers in panels for ranks in numbers})
    return together if all(2 * len(numbers) >= len(together) for numbers in panels) else []


def _words(rows: pd.DataFrame, predicted: pd.DataFrame) -> str:
    """Return the fastest on the most measured ranks, with its share of ideal scaling, and how far predictions go."""
    ranks, times = column(rows, "ranks"), column(rows, "median_ms")
    most = np.flatnonzero((ranks == ranks.max()) & flags(rows, "competes"))
    said = []
    if most.size:
        best = most[np.argmin(times[most])]
        ideal = ideal_ms(rows, [float(ranks.max())], way(rows))[0]
        share = f", {number(100 * ideal / times[best])} % of ideal scaling" if np.isfinite(ideal) else ""
        said.append(
            f"{words(rows, 'kernel')[best]} is fastest on {counted(int(ranks.max()), 'rank')} at "
            f"{number(times[best])} ms{share}"
        )
    if len(predicted):
        last = predicted[predicted["ranks"] == predicted["ranks"].max()]
        best = int(np.argmin(column(last, "ms")))
        said.append(
            f"predicted on {exact(float(column(last, 'ranks')[0]))} ranks: {words(last, 'kernel')[best]} at "
            f"{number(column(last, 'ms')[best])} ms"
        )
    return f"{words(rows, 'facet')[0]}: {'; '.join(said)}."
