"""Roofline: the useful rate of every trial against the FLOPs that it has for each byte, under the measured ceilings.

Williams, Waterman and Patterson, "Roofline", CACM 52 (2009): a rate is at most min(FLOP/s, FLOP/byte · bytes/s).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...numbers import exact, number, plain
from ..canvas import PANELS, panel, svg
from ..drawing import Drawing
from ..marks import KernelMarks, draw_area, draw_line
from ..palette import GRID, INK, SHADE, Style
from ..quantity import column, flags, over, words
from ..scale import Floats, axis_title, ticks, value_axis

ROOM: Final = 2.0  # times beyond the trials that the horizontal axis reaches
ALIKE: Final = 1.02  # ceilings that differ by less are drawn as one line


def roofline_plot(frame: pd.DataFrame, styles: Mapping[str, Style]) -> Figure | None:
    """Return the figure of one dtype, None where fewer than two trials have FLOPs, bytes and ceilings.

    ``frame`` are the trials of one dtype.
    """
    rows = _known(frame)
    if len(rows) < 2:
        return None
    intensity, rate = _intensity(rows), column(rows, "useful_tflop_per_s")
    ceilings = _ceilings(rows)
    ridge = [flops / bytes_per_s for flops, bytes_per_s in ceilings]
    ends = min(intensity.min(), *ridge) / ROOM, max(intensity.max(), *ridge) * ROOM
    x = np.geomspace(*ends, 2)
    x = np.unique(np.concatenate([x, ridge]))
    low, high = (np.minimum(flops, x * bytes_per_s) / 1e12 for flops, bytes_per_s in ceilings)
    flops, bytes_per_s = ceilings[1]
    title = f"{words(frame, 'dtype')[0]}, {number(flops / 1e12)} TFLOP/s, {number(bytes_per_s / 1e9)} GB/s"
    figure, axes = panel(title, label="useful TFLOP/s")
    axes.set_xscale("log")
    span = np.array([rate.min() / 1.3, high.max() * 1.3])
    axes.set_yscale("log")
    value_axis(axes, "y", np.array([span[0], max(span[1], 11 * span[0])]))
    axes.set_xlim(*ends)
    draw_line(axes, x, high, color=INK, linewidth=1.4, label="ceiling")
    draw_area(axes, x, high, axes.get_ylim()[1], color=SHADE, zorder=0.5)
    if (high > ALIKE * low).any():
        draw_line(axes, x, low, color=INK, linewidth=0.8, linestyle=(0, (4, 2)), label="ceiling")
        draw_area(axes, x, low, high, color=GRID, zorder=0.55)
    for kernel, found in rows.groupby("kernel"):
        marks = KernelMarks(styles, str(kernel))
        marks.marks(axes, _intensity(found), column(found, "useful_tflop_per_s"), found["record"].tolist(), size=4.5)
    powers = range(int(np.ceil(np.log10(ends[0]))), int(np.floor(np.log10(ends[1]))) + 1)
    at = [10.0**power for power in powers]
    ticks(axes, "x", at, [exact(value) for value in at], marks=at)
    axis_title(axes, "useful FLOPs per ideal byte")
    return figure


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
    dtypes = [one for _, one in frame.groupby("dtype", sort=False)][:PANELS]
    found = [(one, figure) for one in dtypes if (figure := roofline_plot(one, styles))]
    if not found:
        return []
    return [
        Drawing(
            name="roofline",
            title="Roofline",
            alt=" ".join(_words(one) for one, _ in found),
            caption="Useful rate against useful FLOPs per ideal byte, both on logarithmic scales: left of the ridge "
            "memory limits it, right of it the matmul. The line is what was measured on this machine, a band where "
            "records measured different rates. Each mark is the fastest configuration of a kernel at one place.",
            panels=[svg(figure) for _, figure in found],
            kernels=sorted(pd.concat([_known(one) for one, _ in found])["kernel"].unique()),
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
