"""Totals of a mix of traffic: time and cost of a million tokens, and the best dispatch for all phases together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from ...results.record.advice import Certainty, MixAdvice, PhaseAdvice, SingleDispatch
from .timed_dispatch import TimedDispatch, margin

MILLION: Final = 1_000_000
HOUR_S: Final = 3600
DECIDED: Final = (Certainty.certain, Certainty.likely, Certainty.unclear, Certainty.tied)
"""How sure a loss is in one of several phases; the first of these that is found is that of the whole."""


def cost(seconds_per_million: float, layers: int | None, price: float | None) -> float | None:
    """Return the price of a million tokens through ``layers`` layers, one if that is unknown; None without a price."""
    return None if price is None else price / HOUR_S * seconds_per_million * (layers or 1)


def mix_of(
    phases: Sequence[PhaseAdvice],
    timed: Sequence[Sequence[TimedDispatch]],
    *,
    layers: int | None,
    price: float | None,
) -> MixAdvice | None:
    """Return the mix with the advised dispatch in each phase, None where a phase has none.

    Shares are of tokens: a token takes the mean, weighted by them, of the time over the tokens of a call. ``timed``
    holds the dispatches of each phase, the fastest first.
    """
    if not all(phase.options for phase in phases):
        return None
    seconds = math.fsum(_weighted(phase, one[0]) for phase, one in zip(phases, timed, strict=True))
    tokens_per_s = MILLION / seconds
    return MixAdvice(
        seconds_per_million=seconds,
        tokens_per_s=tokens_per_s,
        model_tokens_per_s=None if layers is None else tokens_per_s / layers,
        cost_per_million=cost(seconds, layers, price),
        sources=sorted({phase.options[0].source for phase in phases}),
        single=_single(phases, timed, seconds),
    )


def _weighted(phase: PhaseAdvice, one: TimedDispatch) -> float:
    """Return the seconds that a phase has of a million tokens of the mix."""
    return MILLION * phase.share * one.seconds / phase.tokens


def _single(
    phases: Sequence[PhaseAdvice], timed: Sequence[Sequence[TimedDispatch]], best: float
) -> SingleDispatch | None:
    """Return the best dispatch of those that run every phase, None if there is none."""
    named = [{one.kernel: one for one in dispatches} for dispatches in timed]
    able = set.intersection(*(set(names) for names in named))
    sums = {
        kernel: math.fsum(_weighted(phase, names[kernel]) for phase, names in zip(phases, named, strict=True))
        for kernel in sorted(able)
    }
    if not sums:
        return None
    kernel = min(sums, key=lambda name: sums[name])
    lost = [
        (phase, margin(dispatches[0], names[kernel]))
        for phase, dispatches, names in zip(phases, timed, named, strict=True)
        if dispatches[0].kernel != kernel
    ]
    sure = min(lost, key=lambda pair: DECIDED.index(pair[1].certainty), default=None)
    return SingleDispatch(
        kernel=kernel,
        seconds_per_million=sums[kernel],
        loss=max(0.0, sums[kernel] / best - 1),
        certainty=sure and sure[1].certainty,
        why=f"in {sure[0].title}: {sure[1].why}" if sure else "",
    )
