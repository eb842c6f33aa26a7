"""Stages: what each kernel spends its time on, as stacked bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...numbers import exact, number, place_words, plain
from ..canvas import EDGE, LETTER, PANELS, RIGHT, WIDTH, group_id, legend, legend_height, panel, svg
from ..drawing import Drawing, left_out
from ..marks import draw_bound
from ..palette import COLOURS, GRID, MUTED, PANEL, Style
from ..quantity import column, flags, lowest_bound, words
from ..scale import spread_out, ticks

PLACES: Final = 3  # of a facet: its first, its last, and one between them
NAME: Final = 24  # letters of a kernel that fit beside a bar
TIME: Final = 0.6  # inches of a time in ms behind the longest bar
ROW: Final = 0.2  # inches of a bar

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = COLOURS
STAGES: Final[Mapping[str, tuple[str, str]]] = {
    "route": (PURPLE, ""),
    "dispatch": (SKY, "////"),
    "up": (BLUE, ""),
    "activation": (GREEN, "...."),
    "down": (BLUE, "\\\\\\\\"),
    "combine": (SKY, ""),
    "backward": (GREEN, ""),
    "compute": (BLUE, ""),
    "communication": (VERMILION, "||||"),
    "waiting": (ORANGE, "xxxx"),
    "unattributed": (GRID, ""),
}
"""The colour and the hatch of each stage, in the order in which a bar shows them."""


def stage_bars(frame: pd.DataFrame, styles: Mapping[str, Style]) -> Figure | None:
    """Return the figure of one facet: a bar for each kernel at up to three of its places, None without stages.

    ``frame`` are the trials of one facet, of which those with ``stages_ms`` are drawn.
    """
    rows = _shown(frame)
    if rows.empty:
        return None
    used = [name for name in STAGES if any(name in stages for stages in rows["stages_ms"])]
    places = [here for _, here in rows.groupby("x", sort=False)]
    left = 0.3 + LETTER * max(len(plain(name, NAME)) for name in words(rows, "kernel"))
    height = ROW * (len(rows) + len(places)) + 0.1
    figure, axes = panel(words(frame, "facet")[0], height=height, left=left, bottom=EDGE + legend_height(used))
    width = WIDTH - left - RIGHT
    axes.set(xlim=(0, width / (width - TIME)), ylim=(len(rows) + len(places) - 0.4, -0.5))
    level = 0
    for here in places:
        title = place_words(words(here, "axis")[0], here["x"].iloc[0])
        axes.text(0.01, level, plain(title, int(width / LETTER)), color=MUTED, va="center", fontsize=8.5)
        _draw_bars(axes, here, level + 1, used, list(styles))
        level += len(here) + 1
    handles: list[Artist] = [_box(stage, 0, 0, 1) for stage in used]
    legend(figure, handles, used)
    return figure


def _draw_bars(axes: Axes, rows: pd.DataFrame, first: int, stages: Sequence[str], order: Sequence[str]) -> None:
    """Draw the bars of one place from the level ``first`` downwards, the longest as long as 1, and its bound."""
    kernels, times = words(rows, "kernel"), rows["stages_ms"].tolist()
    slowest = max(sum(parts.values()) for parts in times)
    for level, kernel, record, parts in zip(count(first), kernels, rows["record"], times, strict=False):
        start = 0.0
        for stage in stages:
            if length := parts.get(stage, 0.0) / slowest:
                bar = _box(stage, start, level - 0.4, length)
                bar.set_gid(group_id(order.index(kernel), (int(record),)))
                axes.add_artist(bar)
                start += length
        axes.text(start + 0.01, level, f"{number(start * slowest)} ms", va="center", fontsize=8.5)
    ticks(axes, "y", range(first, first + len(rows)), [plain(name, NAME) for name in kernels])
    bound = lowest_bound(rows)
    if bound is not None and bound < axes.get_xlim()[1] * slowest:
        draw_bound(axes, [bound / slowest] * 2, [first - 0.5, first + len(rows) - 0.5])


def _box(stage: str, x: float, y: float, length: float) -> Rectangle:
    colour, hatch = STAGES[stage]
    return Rectangle((x, y), length, 0.8, facecolor=colour, edgecolor=PANEL, hatch=hatch, linewidth=0.5)


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the fastest configurations with stages, at the places that are drawn."""
    known = [isinstance(stages, dict) and sum(stages.values()) > 0 for stages in frame["stages_ms"]]
    rows = frame[np.array(known, dtype=bool) & flags(frame, "best")]
    return rows[rows["x"].isin(spread_out(list(rows["x"].unique()), PLACES))]


def stage_drawings(frame: pd.DataFrame, styles: Mapping[str, Style]) -> list[Drawing]:
    """Return the drawing of the stages of a section, none without stages."""
    staged = [one for _, one in frame.groupby("facet", sort=False) if not _shown(one).empty]
    facets = staged[:PANELS]
    if not facets:
        return []
    shown = pd.concat([_shown(one) for one in facets])
    ranks = any("compute" in stages for stages in shown["stages_ms"])
    bound = lowest_bound(shown) is not None
    said = (
        "Parts of the time of one call of the fastest configuration of each kernel, outside of its samples"
        + (", as means over the ranks." if ranks else ". Unattributed is what no stage names."),
        "The slowest bar of a place is as long as the panel.",
        "The dotted line is the lower bound of the time." if bound else "",
        left_out(len(staged) - len(facets), "facet"),
    )
    return [
        Drawing(
            name="stages",
            title="What the time goes to",
            alt=" ".join(map(_words, facets)),
            caption=" ".join(filter(None, said)),
            panels=[svg(figure) for one in facets if (figure := stage_bars(one, styles))],
            kernels=sorted(shown["kernel"].unique()),
            bound=bound,
        )
    ]


def _words(frame: pd.DataFrame) -> str:
    """Return the longest stage of the fastest kernel at each place that is drawn."""
    rows = _shown(frame)
    times = column(rows, "median_ms")
    said = []
    for place in rows["x"].unique():
        here = np.flatnonzero(rows["x"] == place)
        fastest = int(here[np.argmin(times[here])])
        stages = rows["stages_ms"].iloc[fastest]
        longest = max(stages, key=stages.__getitem__)
        share = number(100 * stages[longest] / sum(stages.values()))
        said.append(f"at {exact(place)}, {words(rows, 'kernel')[fastest]} spends {share} % on {longest}")
    return f"{words(frame, 'facet')[0]}: {'; '.join(said)}."
