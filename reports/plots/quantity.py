"""Quantities: what the main plot of a section can show, each with its value for a time and the limit of the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .scale import Floats

OfTime = Callable[[Floats, pd.DataFrame], Floats]


@dataclass(frozen=True, kw_only=True)
class DrawnQuantity:
    """A measure that is drawn along the axis of a suite.

    ``measure`` is its name in `measures.MEASURES`, ``label`` names it on an axis with its unit, ``noun`` in a sentence,
    ``best`` says who wins it. ``of_time`` computes it from times in ms and the trials of these, so that the interval
    and the lower bound of the time have an equivalent; it is None where the measure is read as it is, which has
    neither. ``limit`` says what that equivalent is.
    """

    measure: str
    label: str
    noun: str
    unit: str
    best: str
    lower_is_better: bool = False
    of_time: OfTime | None = None
    limit: str = ""


def column(frame: pd.DataFrame, name: str) -> Floats:
    """Return a column of a frame as numbers, NaN where it has none."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    if frame[name].dtype == np.float64:
        return frame[name].to_numpy()
    found: Floats = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return found


def flags(frame: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    """Return a column of a frame as truth values."""
    return frame[name].to_numpy(dtype=bool)


def words(frame: pd.DataFrame, name: str) -> list[str]:
    """Return a column of a frame as text."""
    return [str(value) for value in frame[name]]


def by_kernel(frame: pd.DataFrame, *names: str) -> list[tuple[str, list[NDArray[Any]]]]:
    """Return some columns of the rows of each kernel, by its name: groups of a frame cost ten times as much."""
    kernels = frame["kernel"].to_numpy()
    columns = [frame[name].to_numpy() for name in names]
    rows = {str(kernel): np.flatnonzero(kernels == kernel) for kernel in sorted(set(kernels))}
    return [(kernel, [values[found] for values in columns]) for kernel, found in rows.items()]


def over(value: Floats, other: Floats) -> Floats:
    """Return one column over another, NaN where the other is 0."""
    found: Floats = np.divide(value, other, out=np.full(len(value), np.nan), where=other != 0)
    return found


def lowest_bound(frame: pd.DataFrame) -> float | None:
    """Return the lower bound of the competitor with the least work in ms, None where it is not known.

    A reference solves another problem.
    """
    known = column(frame, "bound_ms")
    known = known[np.isfinite(known) & flags(frame, "competes")]
    return float(known.min()) if known.size else None


def _tokens_per_s(times: Floats, frame: pd.DataFrame) -> Floats:
    """Return NaN for a reference: its tokens are routed rows."""
    layers = np.isfinite(column(frame, "tokens_per_s"))
    return 1e3 * over(np.where(layers, column(frame, "T"), np.nan), times)


def _tflop_per_s(times: Floats, frame: pd.DataFrame) -> Floats:
    return over(column(frame, "useful_flops") / 1e9, times)


def _percent_of_bound(times: Floats, frame: pd.DataFrame) -> Floats:
    return 100 * over(column(frame, "bound_ms"), times)


QUANTITIES: Final = (
    DrawnQuantity(
        measure="median_ms",
        label="median time (ms)",
        noun="time",
        unit="ms",
        best="fastest",
        lower_is_better=True,
        of_time=lambda times, _: times,
        limit="the lower bound of the time",
    ),
    DrawnQuantity(
        measure="tokens_per_s",
        label="tokens/s",
        noun="tokens per second",
        unit="tokens/s",
        best="fastest",
        of_time=_tokens_per_s,
        limit="the rate at the lower bound of the time",
    ),
    DrawnQuantity(
        measure="useful_tflop_per_s",
        label="useful TFLOP/s",
        noun="useful rate",
        unit="TFLOP/s",
        best="fastest",
        of_time=_tflop_per_s,
        limit="the rate at the lower bound of the time",
    ),
    DrawnQuantity(
        measure="share_of_bound",
        label="lower bound over median (%)",
        noun="share of the bound",
        unit="%",
        best="nearest to the bound",
        of_time=_percent_of_bound,
        limit="all that the machine can do",
    ),
    DrawnQuantity(
        measure="peak_mib",
        label="peak memory (MiB)",
        noun="peak memory",
        unit="MiB",
        best="smallest",
        lower_is_better=True,
    ),
    DrawnQuantity(
        measure="energy_j",
        label="energy of a call (J)",
        noun="energy",
        unit="J",
        best="thriftiest",
        lower_is_better=True,
    ),
)


def quantified(frame: pd.DataFrame, quantity: DrawnQuantity) -> pd.DataFrame:
    """Return the trials that have a quantity, with it as ``value``, its interval as ``low`` and ``high``.

    ``limit`` is its value at the lower bound of the time, NaN for a reference, which solves another problem, and where
    the quantity is none of a time.
    """
    if quantity.of_time is None:
        value = column(frame, quantity.measure)
        found = frame.assign(value=value, low=value, high=value, limit=np.nan)
    else:
        ends = [quantity.of_time(column(frame, name), frame) for name in ("low_ms", "high_ms")]
        bound = np.where(frame["competes"], column(frame, "bound_ms"), np.nan)
        found = frame.assign(
            value=quantity.of_time(column(frame, "median_ms"), frame),
            low=np.minimum(*ends),
            high=np.maximum(*ends),
            limit=quantity.of_time(bound, frame),
        )
    return found[np.isfinite(column(found, "value")) & flags(found, "best")]
