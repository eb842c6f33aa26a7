"""Figures as tests read them: the frame of records, and the marks of a figure with the records behind them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from moebench.reports.frame import section_frame
from moebench.reports.section import Section, sections
from moebench.results.record import Record


def section_of(records: Sequence[Record]) -> Section:
    """Return the one section of some records."""
    (section,) = sections(records)
    return section


def frame_of(records: Sequence[Record]) -> pd.DataFrame:
    """Return the frame of the one section of some records."""
    return section_frame(section_of(records))


def marks(figure: Figure) -> dict[int, tuple[float, float]]:
    """Return where the mark of each record is in the first axes of a figure."""
    found: dict[int, tuple[float, float]] = {}
    for line in figure.axes[0].lines:
        if records := _records(line.get_gid()):
            x, y = (np.asarray(data, dtype=float).tolist() for data in (line.get_xdata(), line.get_ydata()))
            pairs = list(zip(x, y, strict=True))
            found |= dict(zip(records, pairs, strict=True))
    return found


def intervals(figure: Figure) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return both ends of every interval in the first axes of a figure."""
    found = []
    for line in figure.axes[0].lines:
        ends = np.column_stack([np.asarray(data, dtype=float) for data in (line.get_xdata(), line.get_ydata())])
        if line.get_gid() and np.isnan(ends).any():  # each interval ends with a gap
            found += [(tuple(low), tuple(high)) for low, high, _ in ends.reshape(-1, 3, 2).tolist()]
    return found


def dashed(figure: Figure, pattern: str = "--") -> list[list[tuple[float, float]]]:
    """Return the points of the lines in the first axes of a figure that are dashed, and of no kernel."""
    return [
        list(
            zip(*(np.asarray(data, dtype=float).tolist() for data in (line.get_xdata(), line.get_ydata())), strict=True)
        )
        for line in figure.axes[0].lines
        if line.get_linestyle() == pattern and not line.get_gid()
    ]


def places(figure: Figure) -> dict[str, tuple[float, float]]:
    """Return where each text of the first axes of a figure stands; a label of an axis is at 0 on the other."""
    return {text.get_text(): text.get_position() for text in figure.axes[0].texts}


def boxes(figure: Figure) -> list[tuple[int, Any]]:
    """Return the rectangles of the first axes of a figure, each with its record, in the order of drawing."""
    return [(records[0], box) for box in figure.axes[0].patches if (records := _records(box.get_gid()))]


def texts(figure: Figure) -> list[str]:
    """Return every text of a figure."""
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


def _records(gid: str | None) -> list[int]:
    found = re.search(r"-records-([\d-]+)$", gid or "")
    return [int(record) for record in found[1].split("-")] if found else []
