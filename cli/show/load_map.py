"""Drawings of load over time in block characters, which any terminal shows."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BARS: Final = "▁▂▃▄▅▆▇█"
SHADES: Final = ((0.25, " "), (0.75, "░"), (1.5, "▒"), (3.0, "▓"))
"""Characters of loads below a number of times the mean; above the last one it is a full block."""
LEGEND: Final = "rows of an expert over the mean: blank below 1/4, ░ below 3/4, ▒ below 3/2, ▓ below 3, █ from there on"
MOST_ROWS: Final = 32
MOST_NAMES: Final = 2  # experts that a line is named by; of more it has their number


def curves(values: dict[str, NDArray[np.float64]], highest: float) -> list[str]:
    """Return a line for each name, with a bar for each of its values between 1 and ``highest``."""
    longest = max(map(len, values))
    step = max(highest - 1, 1e-9) / len(BARS)
    return [
        f"{name:<{longest}}  {''.join(BARS[min(int((value - 1) / step), len(BARS) - 1)] for value in line)}"
        for name, line in values.items()
    ]


def groups(order_E: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the experts of each line of a heat map; of more than `MOST_ROWS` those next to each other share one."""
    rows = min(len(order_E), MOST_ROWS)
    bounds = [row * len(order_E) // rows for row in range(rows + 1)]
    return [order_E[low:high] for low, high in pairwise(bounds)]


def label(experts: NDArray[np.int64]) -> str:
    """Return the name of a line, its experts or how many they are."""
    return f"{len(experts)} experts" if len(experts) > MOST_NAMES else ", ".join(map(str, experts))


def heat_map(relative_PE: NDArray[np.float64], lines: list[NDArray[np.int64]]) -> list[str]:
    """Return a line for each group of experts, with a shade of their mean for each part of time."""
    longest = max(len(label(experts)) for experts in lines)
    return [
        f"{label(experts):<{longest}}  {''.join(_shade(value) for value in relative_PE[:, experts].mean(1))}"
        for experts in lines
    ]


def _shade(value: float) -> str:
    return next((shade for limit, shade in SHADES if value < limit), "█")
