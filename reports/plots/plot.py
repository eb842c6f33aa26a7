"""Plots: median time along a suite's axis, one panel a line family, beside the time that the machine allows.

They are drawn on figures made here, never through pyplot, and the same records give the same bytes.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from io import StringIO
from typing import Any, Final

from ..numbers import plain
from ..row import Facet, Row, lower_bound, places
from ..section import Section
from .palette import GRID, INK, MUTED, PANEL, ROLES, Style

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from .panel import LABEL, draw, title
except ImportError as error:
    MISSING = f"there are no plots, matplotlib cannot be imported ({error}): pip install matplotlib"
else:
    MISSING = ""

WIDTH, HEIGHT = 4.8, 3.1  # inches of a panel: its 9 pt text stays readable on a phone 360 px wide
BOUND = "lower bound"

_SETTINGS: Final[dict[Any, Any]] = {  # matplotlib's own type of a key is a list of 300 literals that grows
    "svg.fonttype": "none",  # text stays text: searchable, and in the page's own font
    "svg.hashsalt": "moebench",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # every text of an SVG names all of these
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
    """Return an SVG for each facet, without a legend."""
    drawn = []
    for facet, rows in _drawable(section):
        with _drawing():
            figure = Figure(figsize=(WIDTH, _height(facet, rows)), layout="constrained")
            draw(figure.subplots(), facet, rows, section, styles)
            drawn.append(_svg(figure))
    return drawn


def sheet(section: Section, styles: Mapping[str, Style]) -> str | None:
    """Return all facets and the legend in one SVG, or None where no row has a time."""
    facets = _drawable(section)
    if not facets:
        return None
    with _drawing():
        across = min(2, len(facets))
        down = math.ceil(len(facets) / across)
        heights = [max(_height(*one) for one in facets[at * across : (at + 1) * across]) for at in range(down)]
        figure = Figure(figsize=(WIDTH * across, sum(heights) + 0.5), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, height_ratios=heights).flatten()
        for axes, (facet, rows) in zip(grid, facets, strict=False):
            draw(axes, facet, rows, section, styles)
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


@lru_cache(maxsize=256)  # a page of many sections has few styles
def swatch(style: Style | None) -> str:
    """Return the legend's sample of a style as an SVG; None is the style of the lower bound."""
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
    """Return the kernels of which the plot shows a time."""
    return sorted({row.kernel for row in section.rows if row.median})


def has_bound(section: Section) -> bool:
    """Return whether the plot shows a lower bound."""
    return any(lower_bound(rows) is not None for rows in places(section.rows).values())


def inlined(svg: str, prefix: str) -> str:
    """Return an SVG to be put into a page: without a size, in the page's colours, its ids with a prefix."""

    def tag(match: re.Match[str]) -> str:
        text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", match[0])
        return re.sub("|".join(ROLES), lambda found: f"var(--{ROLES[found[0]]}, {found[0]})", text)

    body = svg[svg.index("<svg") :]
    body = re.sub(r' (?:width|height)="[\d.]+pt"', "", body, count=2)
    return re.sub(r"<[^>]+>", tag, body).strip()


def _drawable(section: Section) -> list[tuple[Facet, list[Row]]]:
    """Return the facets that have a time to draw; none without matplotlib."""
    if MISSING:
        return []
    return [(facet, rows) for facet, rows in section.facets.items() if any(row.median for row in rows)]


def _height(facet: Facet, rows: Sequence[Row]) -> float:
    """Return the height of a panel in inches: one of categories grows with their number, each with its title."""
    grouped = places(rows)
    more_lines = 0.16 * title(facet, rows).count("\n")
    if any(place.numeric for place in grouped):
        return HEIGHT + more_lines
    kernels = len({row.kernel for row in rows})
    return 1.0 + more_lines + len(grouped) * max(0.42, 0.13 * kernels)


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
    return _short(text.getvalue())


def _short(svg: str) -> str:
    """Return an SVG in fewer characters that looks the same: hundredths of a point, no ids that nothing refers to."""

    def tag(match: re.Match[str]) -> str:
        text = re.sub(r'^<g id="[^"]*"', "<g", match[0])
        text = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), text)
        return re.sub(r' transform="rotate\(-?0 [^"]*"|(?<= ) +', "", text.replace("\n", " "))

    start = svg.index("<svg")
    body = re.sub(r">\s+<", "><", re.sub(r"<[^>]+>", tag, svg[start:]))
    names = {name: f"i{number}" for number, name in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', body)))}
    return svg[:start] + re.sub(r'(\bid="|url\(#|href="#)([^")]+)', lambda found: found[1] + names[found[2]], body)
