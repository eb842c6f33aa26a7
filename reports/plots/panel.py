"""One panel of a plot: the times of a facet as lines over numbers, as bands of categories, or beside predictions."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from ...results.record.prediction import Prediction
from ..numbers import exact, plain
from ..row import Facet, Row, leading, places
from ..section import Section
from .palette import GRID, INK, MUTED, PANEL, REFERENCE_LINE, SHADE, Style
from .scale import Floats, interval_ends, limits, lower_bounds, plotted_times, positions, spans_decades, time_axis

TICKS = 9  # numbers that fit under a panel
LABEL = 36  # characters of a name that fit beside one
TITLE = 56  # characters that fit over one without labels


def draw(axes: Axes, facet: Facet, rows: Sequence[Row], section: Section, styles: Mapping[str, Style]) -> None:
    """Draw the rows of a facet: beside predictions, over the numbers of the axis, or as a band for each category."""
    axes.set_title(title(facet, rows), loc="left")
    if predictions := section.predicted(facet):
        _beyond(axes, rows, predictions, section.axis, styles)
    elif any(row.place.numeric for row in rows):
        _lines(axes, rows, section.axis, styles)
    else:
        _dots(axes, rows, section.axis, styles)


def title(facet: Facet, rows: Sequence[Row]) -> str:
    """Return the name of a facet in lines as long as a panel is wide beside its labels."""
    labels = [0 if place.numeric else len(plain(exact(place.x), LABEL)) for place in places(rows)]
    return textwrap.fill(plain(facet.title, 4 * LABEL), TITLE - max(labels, default=0))


def _beyond(
    axes: Axes, rows: Sequence[Row], predictions: Sequence[Prediction], axis: str, styles: Mapping[str, Style]
) -> None:
    """Draw lines over numbers of ranks: measured as far as there are ranks, and predicted from the first on."""
    grouped = {float(place.x): leading(group) for place, group in places(rows).items() if place.numeric}
    numbers = sorted({*grouped, *(float(one.ranks) for one in predictions)})
    at = positions(numbers, [])
    times = [plotted_times(rows, np.array([]))]
    for name in sorted({row.kernel for row in rows if row.median}):
        style = styles[name]
        found = {
            one.ranks: 1e3 * one.expected.seconds for one in predictions if one.expected and one.dispatcher == name
        }
        middle, low, high = interval_ends([best.get(name) for best in grouped.values()])
        ticks = [at[x] for x in grouped]
        axes.plot([at[x] for x in found], list(found.values()), color=style.colour, linestyle="--", linewidth=1)
        axes.plot(
            [at[x] for x in found], list(found.values()), style.marker, color=style.colour, markerfacecolor=PANEL, ms=4
        )
        axes.plot(ticks, middle, color=style.colour, linestyle=style.line)
        _marks(axes, ticks, middle, style, yerr=(low, high))
        times.append(np.array(list(found.values())))
    spanned = np.concatenate(times)
    axes.set_yscale("log" if spans_decades(spanned) else "linear")
    time_axis(axes.yaxis, spanned)
    floor, ceiling = limits(spanned)
    axes.set_ylim(floor, ceiling)
    _boundary(axes, at, max(grouped))
    step = math.ceil(len(numbers) / TICKS)
    labelled = [x for order, x in enumerate(numbers) if (len(numbers) - 1 - order) % step == 0]
    axes.set_xticks([at[x] for x in labelled], [exact(x) for x in labelled])
    axes.set_xlabel(plain(axis, 2 * LABEL))
    axes.set_ylabel("time (ms)")
    axes.grid(axis="y")


def _boundary(axes: Axes, at: Mapping[float | str, float], last: float) -> None:
    """Draw a line behind the last place that was measured, with a word on either side."""
    later = [tick for x, tick in at.items() if float(x) > last]
    if not later:
        return
    edge = (at[last] + min(later)) / 2
    axes.axvline(edge, color=MUTED, linewidth=1)
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
            fontsize=8,
        )


def _lines(axes: Axes, rows: Sequence[Row], axis: str, styles: Mapping[str, Style]) -> None:
    """Draw lines over the numbers of the axis; its words come last and are not connected."""
    grouped = places(rows)
    numbers = [float(place.x) for place in grouped if place.numeric]
    at = positions(numbers, [str(place.x) for place in grouped if not place.numeric])
    ticks = list(at.values())
    best = {place: leading(group) for place, group in grouped.items()}
    for name in sorted({row.kernel for row in rows if row.median}):
        found = [best[place].get(name) for place in grouped]
        middle, low, high = interval_ends(found)
        style = styles[name]
        joined = slice(0, len(numbers))
        axes.plot(ticks[joined], middle[joined], color=style.colour, linestyle=style.line)
        _marks(axes, ticks, middle, style, yerr=(low, high))
    bounds = lower_bounds(grouped.values())
    times = plotted_times(rows, bounds)
    axes.set_yscale("log" if spans_decades(times) else "linear")
    time_axis(axes.yaxis, times)
    floor, ceiling = limits(times)
    if np.isfinite(bounds).any():
        line = np.where(np.arange(len(ticks)) < len(numbers), bounds, np.nan)
        axes.plot(ticks, line, color=INK, linestyle=":", linewidth=1.6)
        axes.fill_between(ticks, line, floor, color=SHADE, linewidth=0, zorder=0.5)
        words = slice(len(numbers), None)
        axes.plot(ticks[words], bounds[words], color=INK, linestyle="none", marker="_", markersize=12)
    axes.set_ylim(floor, ceiling)
    if len(numbers) < len(ticks):
        axes.axvline((ticks[len(numbers) - 1] + ticks[len(numbers)]) / 2, color=GRID)
    step = math.ceil(len(numbers) / TICKS)
    labelled = [i for i in range(len(ticks)) if i >= len(numbers) or (len(numbers) - 1 - i) % step == 0]
    axes.set_xticks([ticks[i] for i in labelled], [plain(exact(list(at)[i]), LABEL // 2) for i in labelled])
    axes.set_xlabel(plain(axis, 2 * LABEL))
    axes.set_ylabel("median time (ms)")
    axes.grid(axis="y")


def _dots(axes: Axes, rows: Sequence[Row], axis: str, styles: Mapping[str, Style]) -> None:
    """Draw one band for a category and one mark for a kernel, with time to the right: long names stay readable."""
    grouped = places(rows)
    names = sorted({row.kernel for row in rows if row.median})
    shifts = np.linspace(-0.32, 0.32, len(names)) if len(names) > 1 else np.zeros(1)
    best = [leading(group) for group in grouped.values()]
    for band in range(0, len(grouped), 2):
        axes.axhspan(band - 0.5, band + 0.5, color=SHADE, linewidth=0, zorder=0.5)
    for name, shift in zip(names, shifts, strict=True):
        middle, low, high = interval_ends([kernels.get(name) for kernels in best])
        _marks(axes, middle, np.arange(len(best)) + shift, styles[name], xerr=(low, high))
    bounds = lower_bounds(grouped.values())
    levels = np.flatnonzero(np.isfinite(bounds))
    axes.vlines(bounds[levels], levels - 0.42, levels + 0.42, color=INK, linestyle=":", linewidth=1.6)
    times = plotted_times(rows, bounds)
    axes.set_xscale("log" if spans_decades(times) else "linear")
    time_axis(axes.xaxis, times)
    axes.set_xlim(*limits(times))
    axes.set_ylim(len(grouped) - 0.5, -0.5)
    axes.set_yticks(range(len(grouped)), [plain(exact(place.x), LABEL) for place in grouped])
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel(plain(axis, LABEL))
    axes.set_xlabel("median time (ms)")
    axes.grid(axis="x")


def _marks(
    axes: Axes,
    x: Sequence[float] | Floats,
    y: Sequence[float] | Floats,
    style: Style,
    *,
    xerr: tuple[Floats, Floats] | None = None,
    yerr: tuple[Floats, Floats] | None = None,
) -> None:
    axes.errorbar(
        x,
        y,
        xerr=xerr,
        yerr=yerr,
        color=style.colour,
        fmt=style.marker,
        markerfacecolor=PANEL if style.hollow else style.colour,
        markeredgewidth=1.2 if style.line == REFERENCE_LINE or style.hollow else 0,
        elinewidth=1.1,
        capsize=2.2,
    )
