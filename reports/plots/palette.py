"""Colours and markers: a kernel looks the same in every plot of a page, and colour is never the only cue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from ...results.references import PARTS, REFERENCES

Line = Literal["-", "-.", "--"]

INK: Final = "#1f2328"
MUTED: Final = "#59636e"
GRID: Final = "#e4e7eb"
SHADE: Final = "#f0f2f5"
PANEL: Final = "#fefefe"

ROLES: Final = {INK: "ink", MUTED: "muted", GRID: "grid", SHADE: "shade", PANEL: "panel"}
"""Colours that a page replaces in dark mode, with the CSS variable of each."""

# Okabe & Ito, "Color Universal Design" (2008), in the order of their contrast to white; its yellow is too pale for a
# line on white, and its black is the ink here.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
"""Markers that can be distinguished at this size. After the last they repeat hollow; 66 kernels have a pair each."""

LINES: Final[tuple[Line, ...]] = ("-", "-.")
"""Once all colours are used they repeat, on the other kind of line."""
REFERENCE_LINE: Final[Line] = "--"
REFERENCE_MARKERS: Final = ("+", "x", "1")


@dataclass(frozen=True)
class Style:
    """Colour, marker and line of a kernel in plots."""

    colour: str
    marker: str
    hollow: bool = False
    line: Line = "-"


def styles(kernels: Iterable[str]) -> dict[str, Style]:
    """Return a style for every kernel, by the order of their names; references and parts are dashed lines in ink."""
    competitors = sorted(set(kernels) - {*REFERENCES, *PARTS})
    chosen = {
        name: Style(
            COLOURS[order % len(COLOURS)],
            MARKERS[order % len(MARKERS)],
            hollow=order // len(MARKERS) % 2 == 1,
            line=LINES[order // len(COLOURS) % len(LINES)],
        )
        for order, name in enumerate(competitors)
    }
    marked = zip((*REFERENCES, *PARTS), REFERENCE_MARKERS, strict=True)
    return chosen | {name: Style(INK, marker, line=REFERENCE_LINE) for name, marker in marked}
