"""Plots: median time along a suite's axis, one panel a line family, beside the time that the machine allows.

Drawn on figures of their own, never through pyplot, and the same records give the same bytes.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from itertools import count
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..results.record.prediction import Prediction
from ..results.stats import Interval
from .numbers import exact, plain
from .palette import GRID, INK, MUTED, PANEL, REFERENCE_LINE, ROLES, SHADE, Style
from .section import Section
from .table import Facet, Row, leading, places

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
except ImportError as error:
    MISSING = f"there are no plots, matplotlib cannot be imported ({error}): pip install matplotlib"
else:
    MISSING = ""

WIDTH, HEIGHT = 4.8, 3.1  # inches of a panel: its 9 pt text stays readable on a phone 360 px wide
LOG_AXIS = 8  # an axis that spans more than this is drawn in powers of two
LOG_TIME = 10  # times that span more than a decade are drawn in powers of ten
TICKS = 9  # numbers that fit under a panel
LABEL = 36  # characters of a name that fit beside one
BOUND = "lower bound"

_Floats = NDArray[np.float64]
_NO_TIME = Interval(math.nan, math.nan, math.nan)

_SETTINGS: Final[dict[Any, Any]] = {  # matplotlib's own type of a key is a list of 300 literals that grows
    "svg.fonttype": "none",  # text stays text: searchable, and in the page's own font
    "svg.hashsalt": "moebench",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlecolor": INK,
    "axes.facecolor": PANEL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "figure.facecolor": PANEL,
    "savefig.facecolor": PANEL,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.markersize": 5.5,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
}


@contextmanager
def _drawing() -> Iterator[None]:
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # The glyphs are the viewer's; the font at hand only measures them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


def panels(section: Section, styles: Mapping[str, Style]) -> list[str]:
    """One SVG a facet, without a legend."""
    drawn = []
    for facet, rows in _drawable(section):
        with _drawing():
            figure = Figure(figsize=(WIDTH, _height(rows)), layout="constrained")
            _panel(figure.subplots(), facet, rows, section, styles)
            drawn.append(_svg(figure))
    return drawn


def sheet(section: Section, styles: Mapping[str, Style]) -> str | None:
    """All facets and the legend in one SVG, None where no row has a time."""
    facets = _drawable(section)
    if not facets:
        return None
    with _drawing():
        across = min(2, len(facets))
        down = math.ceil(len(facets) / across)
        heights = [max(_height(rows) for _, rows in facets[at * across : (at + 1) * across]) for at in range(down)]
        figure = Figure(figsize=(WIDTH * across, sum(heights) + 0.5), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, height_ratios=heights).flatten()
        for axes, (facet, rows) in zip(grid, facets, strict=False):
            _panel(axes, facet, rows, section, styles)
        for axes in grid[len(facets) :]:
            axes.set_axis_off()
        keys = {name: _key(styles[name]) for name in drawn_kernels(section)}
        if has_bound(section):
            keys[BOUND] = _bound_key()
        names = [plain(name, LABEL) for name in keys]
        broadest = 0.7 + 0.08 * max(map(len, names))  # inches of a sample, and of a 9 pt letter
        fitting = max(1, int(WIDTH * across / broadest))
        figure.legend(list(keys.values()), names, loc="outside upper center", ncols=min(len(keys), fitting))
        return _svg(figure)


def swatch(style: Style | None) -> str:
    """A legend's sample of a style as an SVG; None is the lower bound."""
    with _drawing():
        figure = Figure(figsize=(0.34, 0.16))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        key = _bound_key() if style is None else _key(style)
        key.set_data([0.06, 0.5, 0.94], [0.5] * 3)
        key.set_markevery([1])
        axes.add_line(key)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        figure.set_facecolor("none")
        return _svg(figure)


def drawn_kernels(section: Section) -> list[str]:
    """The kernels of which the plot shows a time."""
    return sorted({row.kernel for row in section.rows if row.median})


def has_bound(section: Section) -> bool:
    return any(_bound(rows) is not None for rows in places(section.rows).values())


def inlined(svg: str, prefix: str) -> str:
    """An SVG as a part of a page: scaled by the page, in the page's colours, its ids its own."""

    def tag(match: re.Match[str]) -> str:
        text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", match[0])
        return re.sub("|".join(ROLES), lambda found: f"var(--{ROLES[found[0]]}, {found[0]})", text)

    body = svg[svg.index("<svg") :]
    body = re.sub(r' (?:width|height)="[\d.]+pt"', "", body, count=2)
    return re.sub(r"<[^>]+>", tag, body).strip()


def _drawable(section: Section) -> list[tuple[Facet, list[Row]]]:
    """What there is to draw: nothing without matplotlib."""
    if MISSING:
        return []
    return [(facet, rows) for facet, rows in section.facets.items() if any(row.median for row in rows)]


def _height(rows: Sequence[Row]) -> float:
    """Inches: a panel of categories grows with them."""
    grouped = places(rows)
    if any(place.numeric for place in grouped):
        return HEIGHT
    kernels = len({row.kernel for row in rows})
    return 1.0 + len(grouped) * max(0.42, 0.13 * kernels)


def _panel(axes: Axes, facet: Facet, rows: Sequence[Row], section: Section, styles: Mapping[str, Style]) -> None:
    axes.set_title(plain(facet.title, 2 * LABEL), loc="left")
    if predictions := section.predicted(facet):
        _beyond(axes, rows, predictions, section.axis, styles)
    elif any(row.place.numeric for row in rows):
        _lines(axes, rows, section.axis, styles)
    else:
        _dots(axes, rows, section.axis, styles)


def _beyond(
    axes: Axes, rows: Sequence[Row], predictions: Sequence[Prediction], axis: str, styles: Mapping[str, Style]
) -> None:
    """Lines over numbers of ranks: measured as far as there are ranks, and as predicted from the first on."""
    grouped = {float(place.x): leading(group) for place, group in places(rows).items() if place.numeric}
    numbers = sorted({*grouped, *(float(one.ranks) for one in predictions)})
    at = _positions(numbers, [])
    times = [_times(rows, np.array([]))]
    for name in sorted({row.kernel for row in rows if row.median}):
        style = styles[name]
        found = {
            one.ranks: 1e3 * one.expected.seconds for one in predictions if one.expected and one.dispatcher == name
        }
        middle, low, high = _ends([best.get(name) for best in grouped.values()])
        ticks = [at[x] for x in grouped]
        axes.plot([at[x] for x in found], list(found.values()), color=style.colour, linestyle="--", linewidth=1)
        axes.plot(
            [at[x] for x in found], list(found.values()), style.marker, color=style.colour, markerfacecolor=PANEL, ms=4
        )
        axes.plot(ticks, middle, color=style.colour, linestyle=style.line)
        _marks(axes, ticks, middle, style, yerr=(low, high))
        times.append(np.array(list(found.values())))
    spanned = np.concatenate(times)
    axes.set_yscale("log" if _spans_decades(spanned) else "linear")
    _time_axis(axes.yaxis, spanned)
    floor, ceiling = _limits(spanned)
    axes.set_ylim(floor, ceiling)
    _boundary(axes, at, max(grouped))
    step = math.ceil(len(numbers) / TICKS)
    labelled = [x for order, x in enumerate(numbers) if (len(numbers) - 1 - order) % step == 0]
    axes.set_xticks([at[x] for x in labelled], [exact(x) for x in labelled])
    axes.set_xlabel(plain(axis, 2 * LABEL))
    axes.set_ylabel("time (ms)")
    axes.grid(axis="y")


def _boundary(axes: Axes, at: Mapping[float | str, float], last: float) -> None:
    """A line behind the last place that was measured, with a word on either side."""
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
    """Lines over the numbers of the axis; its words stand apart at the end, unconnected."""
    grouped = places(rows)
    numbers = [float(place.x) for place in grouped if place.numeric]
    at = _positions(numbers, [str(place.x) for place in grouped if not place.numeric])
    ticks = list(at.values())
    best = {place: leading(group) for place, group in grouped.items()}
    for name in sorted({row.kernel for row in rows if row.median}):
        found = [best[place].get(name) for place in grouped]
        middle, low, high = _ends(found)
        style = styles[name]
        joined = slice(0, len(numbers))
        axes.plot(ticks[joined], middle[joined], color=style.colour, linestyle=style.line)
        _marks(axes, ticks, middle, style, yerr=(low, high))
    bounds = _bounds(grouped.values())
    times = _times(rows, bounds)
    axes.set_yscale("log" if _spans_decades(times) else "linear")
    _time_axis(axes.yaxis, times)
    floor, ceiling = _limits(times)
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
    """One band a category, one mark a kernel, the time to the right: long names stay readable."""
    grouped = places(rows)
    names = sorted({row.kernel for row in rows if row.median})
    shifts = np.linspace(-0.32, 0.32, len(names)) if len(names) > 1 else np.zeros(1)
    best = [leading(group) for group in grouped.values()]
    for band in range(0, len(grouped), 2):
        axes.axhspan(band - 0.5, band + 0.5, color=SHADE, linewidth=0, zorder=0.5)
    for name, shift in zip(names, shifts, strict=True):
        middle, low, high = _ends([kernels.get(name) for kernels in best])
        _marks(axes, middle, np.arange(len(best)) + shift, styles[name], xerr=(low, high))
    bounds = _bounds(grouped.values())
    levels = np.flatnonzero(np.isfinite(bounds))
    axes.vlines(bounds[levels], levels - 0.42, levels + 0.42, color=INK, linestyle=":", linewidth=1.6)
    times = _times(rows, bounds)
    axes.set_xscale("log" if _spans_decades(times) else "linear")
    _time_axis(axes.xaxis, times)
    axes.set_xlim(*_limits(times))
    axes.set_ylim(len(grouped) - 0.5, -0.5)
    axes.set_yticks(range(len(grouped)), [plain(exact(place.x), LABEL) for place in grouped])
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel(plain(axis, LABEL))
    axes.set_xlabel("median time (ms)")
    axes.grid(axis="x")


def _positions(numbers: Sequence[float], words: Sequence[str]) -> dict[float | str, float]:
    """Where each place of an axis lies: numbers by value or by its logarithm, words one after another behind them."""
    wide = numbers[0] > 0 and numbers[-1] / numbers[0] > LOG_AXIS
    at: dict[float | str, float] = {x: math.log2(x) if wide else x for x in numbers}
    last = list(at.values())[-1]
    gap = (last - at[numbers[0]]) / max(1, len(numbers) - 1) or 1.0
    return at | {word: last + gap * order for word, order in zip(words, count(1), strict=False)}


def _ends(rows: Sequence[Row | None]) -> tuple[_Floats, _Floats, _Floats]:
    """Medians and the lengths of their intervals below and above, NaN where there is no time."""
    found = [row.median if row and row.median else _NO_TIME for row in rows]
    middle = np.array([one.value for one in found])
    return middle, middle - [one.low for one in found], [one.high for one in found] - middle


def _bounds(groups: Iterable[Sequence[Row]]) -> _Floats:
    """The lower bound at each place, NaN where none is known."""
    found = map(_bound, groups)
    return np.array([math.nan if bound is None else bound for bound in found])


def _bound(rows: Sequence[Row]) -> float | None:
    """The lowest lower bound of the competitors at one place; a reference solves another problem."""
    return min((row.bound for row in rows if row.bound is not None and not row.reference), default=None)


def _marks(
    axes: Axes,
    x: Sequence[float] | _Floats,
    y: Sequence[float] | _Floats,
    style: Style,
    *,
    xerr: tuple[_Floats, _Floats] | None = None,
    yerr: tuple[_Floats, _Floats] | None = None,
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


def _times(rows: Sequence[Row], bounds: _Floats) -> _Floats:
    ends = [end for row in rows if row.median for end in (row.median.low, row.median.high)]
    return np.array([*ends, *bounds[np.isfinite(bounds)]])


def _limits(times: _Floats) -> tuple[float, float]:
    if _spans_decades(times):
        room = (times.max() / times.min()) ** 0.06
        return float(times.min() / room), float(times.max() * room)
    return 0.0, float(times.max() * 1.08)


def _spans_decades(times: _Floats) -> bool:
    return bool(times.min() > 0 and times.max() / times.min() > LOG_TIME)


def _time_axis(axis: Axis, times: _Floats) -> None:
    if _spans_decades(times):
        few = times.max() / times.min() < 1000
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: exact(value)))


def _key(style: Style) -> Line2D:
    return Line2D(
        [],
        [],
        color=style.colour,
        marker=style.marker,
        markerfacecolor=PANEL if style.hollow else style.colour,
        linestyle=style.line,
    )


def _bound_key() -> Line2D:
    return Line2D([], [], color=INK, linestyle=":", linewidth=1.6)


def _svg(figure: Figure) -> str:
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return text.getvalue()
