"""Sequential comparison: measure until every point is clear, and measure again what seems slower.

A look at all processes so far errs in 1 of 100 comparisons of equal sides, six looks in less than 6. The second
measurement must err as well: fewer than 0.4 of 100 comparisons of equal sides call anything slower.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from ..record.identity import Identity
from .verdicts import Outcome, Verdict

LOOKS: Final = (8, 12, 16, 24, 32, 48)  # pairs of processes; few where that is enough

Look = Callable[[int, Collection[Identity] | None], list[Verdict]]
"""Measure the given points (all if None) until each side has so many processes, and return a verdict on every point."""


def judge(begin: Callable[[Collection[Identity] | None], Look], looks: Sequence[int] = LOOKS) -> list[Verdict]:
    """Return verdicts on all points; ``begin`` starts a new measurement of the given points (all if None).

    A point that was slower gets the verdict of its second measurement.
    """
    first = _settle(begin(None), looks)
    slower = [verdict.key for verdict in first if verdict.status is Outcome.slower]
    second = {verdict.key: verdict for verdict in _settle(begin(slower), looks)} if slower else {}
    return [second.get(verdict.key, verdict) for verdict in first]


def _settle(look: Look, looks: Sequence[int]) -> list[Verdict]:
    """Look until no point is unclear; a verdict that is clear is final."""
    decided: dict[Identity, Verdict] = {}
    unclear: list[Identity] | None = None
    for processes in looks:
        for verdict in look(processes, unclear):
            if unclear is None or verdict.key in unclear:
                decided[verdict.key] = verdict
        unclear = [key for key, verdict in decided.items() if verdict.status is Outcome.unclear]
        if not unclear:
            break
    return list(decided.values())
