"""Sheet: the panels of a drawing and its legend in one SVG, for a file that stands alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from matplotlib.figure import Figure

from ..numbers import plain
from .canvas import EDGE, LETTER, POINTS, WIDTH, by_rows, settings, svg
from .drawing import Drawing
from .palette import PANEL, Style
from .plot import BOUND, legend_key

NAME: Final = 36  # characters of a kernel that a legend shows


def sheet(drawing: Drawing, styles: Mapping[str, Style]) -> str:
    """Return the legend and all panels of a drawing in one SVG, two panels side by side."""
    across = min(2, len(drawing.panels))
    placed, y = [], 0.0
    parts = [_legend(drawing, styles, across)] if drawing.kernels else []
    for text in parts:
        placed.append((text, 0.0, y))
        y += _size(text)[1]
    for start in range(0, len(drawing.panels), across):
        row = drawing.panels[start : start + across]
        placed += [(text, POINTS * WIDTH * column, y) for column, text in enumerate(row)]
        y += max(_size(text)[1] for text in row)
    width = POINTS * WIDTH * across
    style = re.search(r"<defs><style.*?</style></defs>", drawing.panels[0])
    head = (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1" '
        f'width="{width:g}pt" height="{y:g}pt" viewBox="0 0 {width:g} {y:g}">{style[0] if style else ""}'
        f'<path d="M 0 0 H {width:g} V {y:g} H 0 z" style="fill: {PANEL}"/>'
    )
    body = "".join(
        f'<g transform="translate({left:g} {top:g})">{_inside(text, order)}</g>'
        for order, (text, left, top) in enumerate(placed)
    )
    return f"{head}{body}</svg>\n"


def _legend(drawing: Drawing, styles: Mapping[str, Style], across: int) -> str:
    """Return an SVG of the width of a sheet with a sample and the name of every kernel, and of the lower bound."""
    keys = [legend_key(styles[name]) for name in drawing.kernels] + [legend_key(None)] * drawing.bound
    names = [plain(name, NAME) for name in drawing.kernels] + [BOUND] * drawing.bound
    fitting = max(1, int(WIDTH * across / (0.7 + LETTER * max(map(len, names)))))
    rows = -(-len(keys) // fitting)
    with settings():
        figure = Figure(figsize=(WIDTH * across, 0.22 * rows + 2 * EDGE))
        columns = min(len(keys), fitting)
        figure.legend(by_rows(keys, columns), by_rows(names, columns), loc="center left", ncols=columns)
        return svg(figure)


def _size(text: str) -> tuple[float, float]:
    """Return the width and the height of an SVG in points."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    if found is None:
        raise ValueError(f"this is no SVG of a panel: {text[:80]}")
    return float(found[1]), float(found[2])


def _inside(text: str, order: int) -> str:
    """Return what is in an SVG, its ids told apart from those of others by its order."""
    start, end = text.index(">", text.index("<svg")) + 1, text.rindex("</svg>")
    body = re.sub(r"<defs><style.*?</style></defs>", "", text[start:end], count=1)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{chr(97 + order % 26)}{order // 26 or ''}", body)
