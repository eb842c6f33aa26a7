"""Measures of a call's routes and of its router, which are the same for every kernel at a place.

A section that compares loads or routers shows them in a table of their own, one row for each place.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from .columns import PERCENT, Measure
from .numbers import MISSING
from .row import Row


def _of_routes(name: str, row: Row) -> float | None:
    return None if row.record.balance is None else getattr(row.record.balance, name)


def _dead_experts(row: Row) -> int | None:
    return None if row.record.balance is None else row.record.balance.dead_experts


def _dead_experts_in_words(row: Row) -> str:
    return MISSING if row.record.balance is None else str(row.record.balance.dead_experts)


def _of_router(name: str, row: Row) -> float | None:
    losses = row.record.balance and row.record.balance.losses
    return None if losses is None else getattr(losses, name)


def _of_tile(rows: int, row: Row) -> float | None:
    return None if row.record.balance is None else row.record.balance.padding.get(rows)


def _routes(name: str, heading: str, unit: str, meaning: str, neutral: float | None = None) -> Measure:
    return Measure(name, heading, unit, meaning, partial(_of_routes, name), neutral=neutral)


def _router(name: str, heading: str, meaning: str) -> Measure:
    return Measure(f"router_{name}", heading, "", meaning, partial(_of_router, name), drop_priority=2)


def _padding(rows: int) -> Measure:
    meaning = f"rows that padding every expert to a multiple of {rows} adds, over the kept rows"
    return Measure(f"padding_{rows}", f"padded to {rows}", PERCENT, meaning, partial(_of_tile, rows), drop_priority=1)


BALANCE_MEASURES: Final[tuple[Measure, ...]] = (
    _routes(
        "max_over_mean",
        "max/mean",
        "×",
        "rows of the fullest expert over the mean: on one rank the capacity factor above which nothing is dropped",
    ),
    _routes("gini", "Gini", "", "0 where experts have equal rows, 1 − 1/E where one has all"),
    Measure("dead_experts", "dead", "", "experts without a row", _dead_experts, text=_dead_experts_in_words),
    _routes("load_cv2", "load CV²", "", "squared coefficient of variation of the experts' rows"),
    _routes("importance_cv2", "importance CV²", "", "the same of the experts' summed gates"),
    _routes("dropped_gates", "gates dropped", PERCENT, "share of the gate weight that the capacity dropped", 0),
    _routes("sufficient_capacity_factor", "", "", "capacity factor above which no rank would drop a row"),
    *map(_padding, (16, 64, 128)),
    _router("load_balancing", "balance loss", "E Σ f P over all routes (Switch), 1 if balanced"),
    _router("first_choices", "of first choices", "the same over first choices (GShard)"),
    _router("z", "z-loss", "mean squared logarithm of the sum of exponentials of the logits"),
    _router("expert_entropy", "H(m)", "entropy of the mean probabilities of experts, in nats"),
    _router("token_entropy", "H(m|x)", "mean entropy of a token's probabilities, in nats"),
)
