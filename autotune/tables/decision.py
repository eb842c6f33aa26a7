"""Decisions: which configuration wins for a number of tokens, under one load or under several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

from ...results.stats import Interval, ratio
from ..search.selection import beats, decide
from .contest import (
    Contest,
    TimedConfig,
    Word,
    passed_of,
)


@dataclass(frozen=True)
class Decision:
    """A bucket whose configurations are words, not yet indices."""

    T: int
    default: Word
    winner: Word | None
    speedup: Interval
    noise: float
    trials: int
    ns: Mapping[Word, float]
    regret: Mapping[str, float]


def decide_one(
    T: int, load: str, contest: Contest, default: Word, times: Mapping[str, Mapping[Word, TimedConfig]]
) -> Decision:
    """Decide for one load by the last final comparison in which the default passed."""
    final = [passed for batch in contest.of("final") if default in (passed := passed_of(batch))][-1]
    own = final.pop(default)
    verdict = decide(own[0], own[-1], [samples[0] for samples in final.values()])
    winner = None if verdict.winner is None else list(final)[verdict.winner]
    chosen = winner or default
    regret = {other: _regret_of(chosen, found) for other, found in times.items() if other != load and chosen in found}
    ns = {word: timed.ns for word, timed in times[load].items()}
    return Decision(T, default, winner, verdict.speedup, verdict.noise, len(contest.records), ns, regret)


def decide_robustly(
    T: int, default: Word, times: Mapping[str, Mapping[Word, TimedConfig]], contests: Sequence[Contest]
) -> Decision:
    """Decide for several loads: the least worst regret, if it beats the default under the default's worst load."""
    common = [word for word in next(iter(times.values())) if all(word in found for found in times.values())]
    worst = {word: max(_regret_of(word, found) for found in times.values()) for word in common}
    best = min(common, key=lambda word: worst[word])
    unsure = max(contest.noise(default) for contest in contests)
    hardest = max(times.values(), key=lambda found: _regret_of(default, found))
    speedup = Interval(1.0, 1.0, 1.0)
    if best != default:
        speedup = ratio(hardest[best].beside, hardest[best].samples)
    winner = best if best != default and beats(speedup, unsure) else None
    fastest = geometric_mean(min(timed.ns for timed in found.values()) for found in times.values())
    ns = {word: fastest * (1 + regret) for word, regret in worst.items()}
    regret = {load: _regret_of(winner or default, found) for load, found in times.items()}
    trials = sum(len(contest.records) for contest in contests)
    return Decision(T, default, winner, speedup, unsure, trials, ns, regret)


def _regret_of(word: Word, times: Mapping[Word, TimedConfig]) -> float:
    return times[word].ns / min(timed.ns for timed in times.values()) - 1
