"""Roofline: the useful rate of every trial against the FLOPs that it has for each byte, under the measured ceilings.

Williams, Waterman and Patterson, "Roofline", CACM 52 (2009): a rate is at most min(FLOP/s, FLOP/byte · bytes/s).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...numbers import number, plain
from ..canvas import PANELS, panel, svg
from ..drawing import Drawing, left_out, scale_words
from ..marks import KernelMarks, draw_area, draw_line
from ..palette import GRID, INK, SHADE, Style
from ..quantity import column, flags, over, words
from ..scale import Floats, axis_title, value_axis

ROOM: Final = 2.0  # times beyond the trials that the horizontal axis reaches
ALIKE: Final = 1.02  # ceilings that differ by less are drawn as one line


def roofline_plot(
    frame: pd.DataFrame, styles: Mapping[str, Style], *, reached: tuple[Floats, Floats] | None = None
) -> Figure | None:
    """Return the figure of one dtype, None where fewer than two trials have FLOPs, bytes and ceilings.

    ``frame`` are the trials of one dtype, ``reached`` what the axes show if other panels share them.
    """
    rows = _known(frame)
    if len(rows) < 2:
        return None
    across, up = reached or reach(rows)
    flops, bytes_per_s = _ceilings(rows)[1]
    title = f"{words(frame, 'dtype')[0]}, {number(flops / 1e12)} TFLOP/s, {number(bytes_per_s / 1e9)} GB/s"
    figure, axes = panel(title, label="useful TFLOP/s")
    value_axis(axes, "x", across)
    value_axis(axes, "y", up)
    _draw_ceilings(axes, _ceilings(rows))
    for kernel, found in rows.groupby("kernel"):
        marks = KernelMarks(styles, str(kernel))
        marks.marks(axes, _intensity(found), column(found, "useful_tflop_per_s"), found["record"].tolist(), size=4.5)
    axis_title(axes, "useful FLOPs per ideal byte (FLOP/byte)")
    return figure


def reach(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return the FLOPs per byte and the TFLOP/s that a panel shows: its trials, its ridges, and room around them.

    Each spans more than a decade, so that its axis is logarithmic.
    """
    ceilings = np.array(_ceilings(rows))
    across = np.concatenate([_intensity(rows), ceilings[:, 0] / ceilings[:, 1]])
    rates = column(rows, "useful_tflop_per_s")
    return _decade(across.min() / ROOM, across.max() * ROOM), _decade(rates.min() / 1.3, 1.3e-12 * ceilings[:, 0].max())


def _decade(low: float, high: float) -> Floats:
    return np.array([low, max(high, 11 * low)])


def _draw_ceilings(axes: Axes, ceilings: Sequence[tuple[float, float]]) -> None:
    """Draw the highest ceiling with a shade above it, and a band down to the lowest where that is another."""
    ridges = [flops / bytes_per_s for flops, bytes_per_s in ceilings]
    x = np.unique([*axes.get_xlim(), *ridges])
    low, high = (np.minimum(flops, x * bytes_per_s) / 1e12 for flops, bytes_per_s in ceilings)
    draw_line(axes, x, high, color=INK, linewidth=1.4, label="ceiling")
    draw_area(axes, x, high, axes.get_ylim()[1], color=SHADE, zorder=0.5)
    if (high > ALIKE * low).any():
        draw_line(axes, x, low, color=INK, linewidth=0.8, linestyle=(0, (4, 2)), label="ceiling")
        draw_area(axes, x, low, high, color=GRID, zorder=0.55)


def _known(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the fastest configurations with all that a roofline needs."""
    rate, intensity = column(frame, "useful_tflop_per_s"), _intensity(frame)
    rates = column(frame, "flops_per_s") * column(frame, "bytes_per_s")
    positive = (rate > 0) & (intensity > 0) & np.isfinite(intensity) & np.isfinite(rates)
    return frame[positive & flags(frame, "best")]


def _intensity(frame: pd.DataFrame) -> Floats:
    return over(column(frame, "useful_flops"), column(frame, "ideal_bytes"))


def _ceilings(rows: pd.DataFrame) -> list[tuple[float, float]]:
    """Return FLOP/s and bytes/s of the lowest and of the highest ceiling that was measured beside these trials."""
    flops, memory = column(rows, "flops_per_s"), column(rows, "bytes_per_s")
    return [(float(flops.min()), float(memory.min())), (float(flops.max()), float(memory.max()))]


def roofline_drawings(frame: pd.DataFrame, styles: Mapping[str, Style]) -> list[Drawing]:
    """Return the roofline of a section with a panel for each dtype, none without rates of the machine."""
    known = [one for _, one in frame.groupby("dtype", sort=False) if len(_known(one)) > 1]
    dtypes = known[:PANELS]
    if not dtypes:
        return []
    each = [reach(_known(one)) for one in dtypes]
    reached = np.concatenate([across for across, _ in each]), np.concatenate([up for _, up in each])
    said = (
        "Useful rate against useful FLOPs per ideal byte, both on logarithmic scales: left of the ridge memory limits "
        "it, right of it the matmul. The line is what was measured on this machine, a band where records measured "
        "different rates. Each mark is the fastest configuration of a kernel at one place.",
        scale_words(len(dtypes), alike=True),
        left_out(len(known) - len(dtypes), "dtype"),
    )
    return [
        Drawing(
            name="roofline",
            title="Roofline",
            alt=" ".join(map(_words, dtypes)),
            caption=" ".join(filter(None, said)),
            panels=[svg(figure) for one in dtypes if (figure := roofline_plot(one, styles, reached=reached))],
            kernels=sorted(pd.concat(map(_known, dtypes))["kernel"].unique()),
        )
    ]


def _words(frame: pd.DataFrame) -> str:
    rows = _known(frame)
    flops, bytes_per_s = _ceilings(rows)[1]
    rate, intensity = column(rows, "useful_tflop_per_s"), _intensity(rows)
    share = rate / (np.minimum(flops, intensity * bytes_per_s) / 1e12)
    best = int(np.argmax(np.where(flags(rows, "competes"), share, -1)))
    return (
        f"{plain(words(rows, 'dtype')[0])}: ceilings of {number(flops / 1e12)} TFLOP/s and {number(bytes_per_s / 1e9)} "
        f"GB/s, ridge at {number(flops / bytes_per_s)} FLOP/byte; trials of {number(rate.min())} to "
        f"{number(rate.max())} TFLOP/s; nearest to the ceiling is {words(rows, 'kernel')[best]} at "
        f"{number(100 * share[best])} %."
    )
