"""Measures of what a machine gives for its time: utilisation, the way from baseline to bound, cost of tokens."""

from __future__ import annotations

from typing import Final

from .columns import PERCENT, Measure
from .numbers import optional
from .row import Row

S_PER_H: Final = 3600


def _s_mfu(row: Row) -> float | None:
    record = row.record
    if row.median is None or record.work is None or record.roofline is None:
        return None
    return record.work.useful_flops / (row.median.value / 1e3) / record.roofline.flops_per_s


def _s_mbu(row: Row) -> float | None:
    record = row.record
    if row.median is None or record.work is None or record.roofline is None:
        return None
    return record.work.ideal_bytes / (row.median.value / 1e3) / record.roofline.bytes_per_s


def _sol_score(row: Row) -> float | None:
    """Return None for the baseline itself, for a reference, and where the baseline is at its bound."""
    if row.median is None or row.bound is None or row.baseline_ms is None or not row.competes:
        return None
    gap = row.baseline_ms - row.bound
    return (row.baseline_ms - row.median.value) / gap if gap > 0 and row.kernel != row.baseline else None


def _cost_of_tokens(row: Row) -> float | None:
    """Return the cost of a million tokens at the price of a device-hour, None without a price."""
    tokens, ranks = row.record.problem.get("T"), row.record.problem.get("ranks", 1)
    if row.price is None or row.median is None or row.reference:
        return None
    if not isinstance(tokens, int) or not isinstance(ranks, int) or not tokens:
        return None
    hours = row.median.value / 1e3 / S_PER_H
    return row.price * ranks * hours / tokens * 1e6


def _joules_per_token(row: Row) -> float | None:
    """Return None for a reference: its tokens are routed rows."""
    tokens, clocks = row.record.problem.get("T"), row.record.clocks
    if clocks is None or clocks.energy_j is None or row.reference or not isinstance(tokens, int) or not tokens:
        return None
    return clocks.energy_j / tokens


def _millijoules(row: Row) -> str:
    joules = _joules_per_token(row)
    return optional(None if joules is None else 1e3 * joules)


EFFICIENCY_MEASURES: Final[tuple[Measure, ...]] = (
    Measure(
        "sol_score",
        "SOL score",
        PERCENT,
        "share of the gap between the baseline's time and the lower bound that is closed, 0 at the baseline and 100 % "
        "at the bound (the quantity of SOL-ExecBench, arXiv 2603.19173, with the bound of this machine's measured "
        "rates)",
        _sol_score,
        drop_priority=6,
    ),
    Measure(
        "s_mfu",
        "S-MFU",
        PERCENT,
        "sparse model FLOPS utilisation (MoE-CAP, arXiv 2412.07067): FLOPs of activated experts per second over the "
        "measured matmul rate",
        _s_mfu,
        drop_priority=9,
    ),
    Measure(
        "s_mbu",
        "S-MBU",
        PERCENT,
        "sparse memory bandwidth utilisation (MoE-CAP): bytes of activated experts and of the tokens, each moved once, "
        "per second over the measured memory rate",
        _s_mbu,
        drop_priority=9,
    ),
    Measure(
        "cost_per_million_tokens",
        "cost of 10⁶ tokens",
        "",
        "price of the device-hours that this layer takes for a million tokens, in the currency of the price; a model "
        "has many such layers",
        _cost_of_tokens,
        drop_priority=3,
    ),
    Measure(
        "joules_per_token",
        "energy of a token",
        "mJ",
        "energy of one of many calls back to back over its tokens, in files in joules; a model has many such layers",
        _joules_per_token,
        text=_millijoules,
        drop_priority=8,
    ),
)
