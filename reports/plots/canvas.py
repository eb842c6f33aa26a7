"""Canvas: figures with margins in inches, made without pyplot, and their text as a short SVG.

The same records give the same bytes.
"""

from __future__ import annotations

import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any, Final, Literal, TypeVar

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Tick, XAxis, YAxis
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from ...common.garbage import without_collections
from .palette import GRID, INK, MUTED, PANEL

WIDTH: Final = 4.4  # inches of a panel: on a phone 360 px wide, its 9 pt text is 9 px high
HEIGHT: Final = 2.35  # inches between the axes of a panel of lines
LEFT: Final = 0.62  # inches beside the axes, for numbers
RIGHT: Final = 0.18  # inches beside the axes, for half of the last label under it
BOTTOM: Final = 0.48  # inches under the axes, for ticks and a title
LETTER: Final = 0.075  # inches that a 9 pt letter takes on the average
TITLE: Final = 54  # letters of a title that fit over a panel
LINE: Final = 0.17  # inches from a line of text to the next
PANELS: Final = 12  # of one drawing: more are not compared by eye, and six measures of them take a page a second
EDGE: Final = 0.1  # inches around everything
POINTS: Final = 72  # of an inch, which are the pixels of an SVG
KEPT_TEXTS: Final = 20_000  # texts of which the extents are kept

Entry = TypeVar("Entry")

_extents: dict[tuple[str, float], tuple[float, float, float]] = {}

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
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "hatch.linewidth": 0.6,
    "lines.markersize": 5.5,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
}


@contextmanager
def settings() -> Iterator[None]:
    """Draw with the settings of our plots, and leave those of others as they were.

    Garbage is collected afterwards: figures are full of cycles.
    """
    # The glyphs are the viewer's; the font at hand only measures them.
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings(), without_collections():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


def panel(
    title: str,
    *,
    label: str = "",
    height: float = HEIGHT,
    left: float = LEFT,
    bottom: float = BOTTOM,
    right: float = RIGHT,
) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes that has such a height and such margins in inches, under its title.

    ``label`` names the vertical axis, over its top. The axes have neither ticks nor labels of their own, which take
    matplotlib half of the time of a panel: see `scale.ticks`.
    """
    lines = wrapped(title)
    top = EDGE + (LINE + EDGE / 4) * (len(lines) + bool(label))
    whole = top + height + bottom
    figure = Figure(figsize=(WIDTH, whole))
    for number, line in enumerate(lines):
        figure.text(EDGE / WIDTH, 1 - (EDGE / 2 + LINE * number) / whole, line, va="top", fontsize=9.5)
    if label:
        figure.text(EDGE / WIDTH, 1 - (top - 0.7 * EDGE) / whole, label, va="bottom", color=MUTED)
    return figure, add_axes(figure, (left / WIDTH, bottom / whole, 1 - (left + right) / WIDTH, height / whole))


def add_axes(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Return new axes of a figure that have only their lines, where ``box`` is left, bottom, width and height."""
    return figure.add_axes(box, axes_class=_BareAxes)


class _BareX(XAxis):
    majorTicks: list[Tick] = []  # noqa: RUF012  # the name of matplotlib's, which is never appended to
    minorTicks: list[Tick] = []  # noqa: RUF012


class _BareY(YAxis):
    majorTicks: list[Tick] = []  # noqa: RUF012
    minorTicks: list[Tick] = []  # noqa: RUF012


class _BareAxes(Axes):
    """Axes that never make ticks, which would take most of the time that axes take: `scale.ticks` writes labels."""

    def _init_axis(self) -> None:
        self.xaxis, self.yaxis = _BareX(self, clear=False), _BareY(self, clear=False)
        for side, axis in (("bottom", self.xaxis), ("top", self.xaxis), ("left", self.yaxis), ("right", self.yaxis)):
            self.spines[side].register_axis(axis)

    def clear(self) -> None:
        super().clear()
        for side in ("left", "bottom"):  # which ticks would else do
            self.spines[side].set_position(("outward", 0.0))
        self.xaxis.set_visible(False)
        self.yaxis.set_visible(False)

    def grid(self, *_args: object, **_options: object) -> None:
        """Draw nothing: `scale.ticks` draws lines where it writes labels."""


def legend(figure: Figure, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """Write a legend at the foot of a figure, for what the legend of kernels does not tell."""
    columns = _columns(names)
    figure.legend(
        by_rows(handles, columns),
        by_rows(names, columns),
        loc="lower left",
        bbox_to_anchor=(0, 0),
        ncols=columns,
        fontsize=8.5,
        borderpad=0.3,
        handlelength=1.6,
        columnspacing=1.2,
        labelspacing=0.25,
    )


def by_rows(entries: Sequence[Entry], columns: int) -> list[Entry]:
    """Return the entries of a legend in the order that fills its rows one by one; matplotlib fills columns."""
    return [entry for column in range(columns) for entry in entries[column::columns]]


def legend_height(names: Sequence[str]) -> float:
    """Return the inches that a legend with these names takes."""
    return EDGE + LINE * math.ceil(len(names) / _columns(names))


def _columns(names: Sequence[str]) -> int:
    return min(len(names), max(1, int(WIDTH / (0.5 + LETTER * max(map(len, names))))))


def wrapped(title: str) -> list[str]:
    """Return a title in as many lines as it takes over a panel, four at most. Groups of digits stay together."""
    return textwrap.wrap(title, TITLE, max_lines=4, placeholder="…")


def svg(figure: Figure) -> str:
    """Return the SVG of a figure: its text as text, coordinates in hundredths of a point."""
    figure.dpi = POINTS
    text, (width, height) = StringIO(), POINTS * figure.get_size_inches()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    renderer = _Renderer(width, height, text, image_dpi=POINTS, metadata=nothing)  # type: ignore[no-untyped-call]
    figure.draw(renderer)
    renderer.finalize()  # type: ignore[no-untyped-call]
    return _short(text.getvalue())


class _Renderer(RendererSVG):
    """Renderer that measures a text once for all figures, which else takes a fifth of the time of a panel."""

    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: bool | Literal["TeX"]
    ) -> tuple[float, float, float]:
        key = (s, prop.get_size_in_points())
        if key not in _extents:
            if len(_extents) >= KEPT_TEXTS:
                _extents.clear()
            _extents[key] = super().get_text_width_height_descent(s, prop, ismath)  # type: ignore[no-untyped-call]
        return _extents[key]


def group_id(series: int, records: tuple[int, ...] = ()) -> str:
    """Return the id of an artist of a kernel, by its index in the styles, and of the records of its marks.

    `svg` turns it into the attributes ``data-series`` and ``data-records``.
    """
    return f"series-{series}" + ("-records-" + "-".join(map(str, records)) if records else "")


def _short(text: str) -> str:
    """Return an SVG in fewer characters that looks the same: no ids that nothing refers to, no style said twice."""

    def tag(match: re.Match[str]) -> str:
        text = re.sub(r'^<g id="([^"]*)"', lambda found: f"<g{_data(found[1])}", match[0])
        text = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), text)
        return re.sub(r' transform="rotate\(-?0 [^"]*"|(?<= ) +', "", text.replace("\n", " "))

    start = text.index("<svg")
    body = re.sub(r">\s+<", "><", re.sub(r"<[^>]+>", tag, text[start:]))
    body = re.sub(r'<g( clip-path="[^"]*")?>((?:<use [^>]*/>)+)</g>', _styled_once, body)
    names = {name: f"i{number}" for number, name in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', body)))}
    return text[:start] + re.sub(r'(\bid="|url\(#|href="#)([^")]+)', lambda found: found[1] + names[found[2]], body)


def _data(name: str) -> str:
    """Return the attributes for a name that `group_id` made, nothing for another one."""
    found = re.fullmatch(r"series-(\d+)(?:-records-([\d-]+))?", name)
    if not found:
        return ""
    records = f' data-records="{found[2].replace("-", " ")}"' if found[2] else ""
    return f' data-series="{found[1]}"{records}'


def _styled_once(group: re.Match[str]) -> str:
    """Return a group of marks of equal style with the style on the group, from which its marks inherit it."""
    found = set(re.findall(r' style="([^"]*)"', group[2]))
    if len(found) != 1 or group[2].count(" style=") != group[2].count("<use "):
        return group[0]
    style = found.pop()
    return f'<g{group[1] or ""} style="{style}">{group[2].replace(f" style={chr(34)}{style}{chr(34)}", "")}</g>'
