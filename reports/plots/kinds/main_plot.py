"""The main plot of a section: each of its quantities along the axis, one panel a facet."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from ...measures import MEASURES
from ...numbers import number, plain
from ..canvas import PANELS, svg
from ..crossovers import crossovers
from ..drawing import Drawing, left_out, scale_words
from ..palette import Style
from ..quantity import QUANTITIES, DrawnQuantity, column, flags, quantified, words
from ..scale import shared
from .along_axis import LETTERS, along_axis, dropped, is_lines, spanned

_USED: Final = (
    *("axis", "facet", "x", "numeric", "kernel", "competes", "leads", "best", "record", "T", "useful_flops"),
    *("capacity_factor", "drop_rate", "bound_ms", "low_ms", "high_ms"),
    *dict.fromkeys(("median_ms", "tokens_per_s", *(quantity.measure for quantity in QUANTITIES))),
)
"""Columns of the frame that are drawn or said; each group of rows copies all that there are."""
_HEADINGS: Final = {measure.name: measure.column.heading for measure in MEASURES}


def main_plots(frame: pd.DataFrame, styles: Mapping[str, Style]) -> list[Drawing]:
    """Return a drawing for each quantity that some trials of a section have, the time first."""
    frame = frame[[name for name in _USED if name in frame]]
    found = [drawing for quantity in QUANTITIES if (drawing := _drawing(frame, quantity, styles))]
    return [*found, *_rate_beside_memory(found, frame)]


def _rate_beside_memory(found: Sequence[Drawing], frame: pd.DataFrame) -> list[Drawing]:
    """Return the panels of throughput and of memory beside each other where a capacity factor is on the axis."""
    shown = {drawing.measure: drawing for drawing in found}
    rate, memory = (shown.get(_HEADINGS[name]) for name in ("tokens_per_s", "peak_mib"))
    capped = any(dropped(facet) is not None for _, facet in quantified(frame, QUANTITIES[0]).groupby("facet"))
    if rate is None or memory is None or not capped or len(rate.panels) != len(memory.panels):
        return []
    return [
        Drawing(
            name="throughput-memory",
            title="Throughput and memory against the capacity factor",
            alt=f"{rate.alt} {memory.alt}",
            caption=f"Tokens per second and peak memory at equal capacity factors. {rate.caption}",
            panels=[svg for pair in zip(rate.panels, memory.panels, strict=True) for svg in pair],
            kernels=sorted({*rate.kernels, *memory.kernels}),
            bound=rate.bound,
        )
    ]


def _drawing(frame: pd.DataFrame, quantity: DrawnQuantity, styles: Mapping[str, Style]) -> Drawing | None:
    facets = [found for _, found in quantified(frame, quantity).groupby("facet", sort=False) if len(found) > 1]
    if not facets:
        return None
    drawn = facets[:PANELS]
    places, values = _shared_places(drawn), shared([spanned(one) for one in drawn])
    panels = []
    for facet in drawn:
        figure = along_axis(facet, quantity, styles, places=places if is_lines(facet) else (), values=values)
        if figure is not None:
            panels.append(svg(figure))
    together = pd.concat(drawn)
    return Drawing(
        name="along-axis",
        title=f"{quantity.noun.capitalize()} against {plain(words(together, 'axis')[0]) or 'the axis'}",
        measure=_HEADINGS[quantity.measure],
        alt=" ".join(_words(facet, quantity) for facet in drawn),
        caption=_caption(facets, quantity, alike=values is not None),
        panels=panels,
        kernels=sorted(together["kernel"].unique()),
        bound=bool(np.isfinite(column(together, "limit")).any()),
    )


def _shared_places(facets: Sequence[pd.DataFrame]) -> list[float | str]:
    """Return the places of all panels of lines, or none where one has less than half of them."""
    each = [list(facet["x"].unique()) for facet in facets if is_lines(facet)]
    together = list(dict.fromkeys(x for places in each for x in places))
    return together if all(2 * len(places) >= len(together) for places in each) else []


def _words(facet: pd.DataFrame, quantity: DrawnQuantity) -> str:
    """Return what a panel shows in a sentence: who is best at how many places, and the range of the values."""
    competing = facet[flags(facet, "competes")]
    values = column(facet, "value")
    span = f"{quantity.noun} of {number(values.min())} to {number(values.max())} {quantity.unit}"
    title = plain(words(facet, "facet")[0])
    if competing["kernel"].nunique() < 2:
        return f"{title}: {span}."
    if (competing.groupby("x", sort=False)["value"].nunique() < 2).all():
        return f"{title}: {span}, equal for all kernels."
    best: dict[str, tuple[float, str]] = {}
    sign = 1 if quantity.lower_is_better else -1
    for x, value, kernel in zip(
        words(competing, "x"), column(competing, "value"), words(competing, "kernel"), strict=True
    ):
        best[x] = min(best.get(x, (math.inf, "")), (sign * value, kernel))
    wins = Counter(kernel for _, kernel in best.values())
    if len(best) == 1:
        return f"{title}: {next(iter(wins))} is {quantity.best}; {span}."
    won = ", ".join(f"{kernel} at {count}" for kernel, count in wins.most_common(3))
    crossed = "".join(f"; crossover at {one.words}" for one in crossovers(facet)[: len(LETTERS)])
    return f"{title}: {quantity.best} of {len(best)} places is {won}; {span}{crossed}."


def _caption(facets: Sequence[pd.DataFrame], quantity: DrawnQuantity, *, alike: bool) -> str:
    """Return how to read the panels, and what they leave out."""
    drawn, left = pd.concat(facets[:PANELS]), len(facets) - PANELS
    interval = " with its 95 % interval" if quantity.of_time else ""
    said = [f"{quantity.noun.capitalize()}{interval}, of the fastest configuration of each kernel."]
    if np.isfinite(column(drawn, "limit")).any():
        said.append(f"The dotted line is {quantity.limit}.")
    said.append(scale_words(len(facets[:PANELS]), alike=alike))
    if any(dropped(facet) is not None for facet in facets[:PANELS]):
        said.append("Beneath is the share of routed rows that the capacity drops.")
    if work := equal_flops(facets[:PANELS]):
        said.append(f"Useful FLOPs are equal at all places of a panel: {work}.")
    said.append(left_out(left, "facet"))
    return " ".join(filter(None, said))


def equal_flops(facets: Sequence[pd.DataFrame]) -> str:
    """Return the useful FLOPs of each facet in words if they are equal at all of its places."""
    found = []
    for facet in facets:
        competing = facet[flags(facet, "competes")]
        flops = set(column(competing, "useful_flops").tolist())
        if competing["x"].nunique() < 2 or len(flops) != 1 or not all(map(math.isfinite, flops)):
            return ""
        found.append(f"{number(flops.pop() / 1e9)} GFLOP")
    return " and ".join(dict.fromkeys(found))
