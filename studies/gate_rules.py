"""Rules that judge a comparison, the gate's among them, and their scores in comparisons with a known answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from noise import Array, Generator, Noise
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from moebench.results.record.identity import Identity
from moebench.results.regression.paired_difference import difference
from moebench.results.regression.sequential import LOOKS, Look, judge
from moebench.results.regression.verdicts import FLOOR, Outcome, Verdict, decide
from moebench.results.stats import CONFIDENCE

POINTS: Final = 20  # of a comparison
SLOWDOWNS: Final = (0.0, 0.03, 0.05)  # of its first point
RESAMPLES: Final = 400

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Lab:
    """A comparison of two sides that differ by noise, and by a slowdown of the first point of the new side."""

    noise: Noise
    slowdown: float
    generator: Generator

    @cached_property
    def first(self) -> tuple[Array, Array]:
        """The samples of the first processes of both sides, which every rule sees."""
        return self.sides(0, LOOKS[0])

    def sides(self, have: int, want: int) -> tuple[Array, Array]:
        """Return samples of both sides, (points, processes, samples), for processes ``have`` to ``want`` of a side."""
        logs = self.noise(self.generator, POINTS, range(2 * have, 2 * want))
        old, new = np.exp(logs[:, ::2]), np.exp(logs[:, 1::2])
        new[0] *= 1 + self.slowdown
        return old, new


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The judgement of a rule on the points of a comparison, and how many processes a side it took."""

    slower: Flags
    unclear: Flags
    processes: int = LOOKS[0]


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of a rule in one kind of noise, as shares of the comparisons.

    ``false_alarms``: something was called slower although nothing was. ``found`` and ``unclear``: the first point was
    given that verdict, for each slowdown. ``processes``: the mean number of processes of a side.
    """

    false_alarms: float
    found: Mapping[float, float]
    unclear: Mapping[float, float]
    processes: Mapping[float, float]

    @staticmethod
    def of(said: Mapping[float, Sequence[Judgement]]) -> Score:
        return Score(
            false_alarms=float(np.mean([one.slower.any() for one in said[0.0]])),
            found={slowdown: float(np.mean([one.slower[0] for one in ones])) for slowdown, ones in said.items()},
            unclear={slowdown: float(np.mean([one.unclear[0] for one in ones])) for slowdown, ones in said.items()},
            processes={slowdown: float(np.mean([one.processes for one in ones])) for slowdown, ones in said.items()},
        )


Rule = Callable[[Lab], Judgement]
"""A rule: it judges the points of a comparison."""


def study(
    noise: Noise, rules: Mapping[str, Rule], comparisons: int, slowdowns: Sequence[float] = SLOWDOWNS
) -> dict[str, Score]:
    """Return the scores of the rules, all of which see the same times. The comparisons are drawn from fixed seeds."""
    said: dict[str, dict[float, list[Judgement]]] = {name: {slowdown: [] for slowdown in slowdowns} for name in rules}
    for slowdown in slowdowns:
        generator = np.random.default_rng(0)
        for _ in range(comparisons):
            lab = Lab(noise, slowdown, generator)
            for name, rule in rules.items():
                said[name][slowdown].append(rule(lab))
    return {name: Score.of(of_rule) for name, of_rule in said.items()}


def fixed(lab: Lab) -> Judgement:
    """Judge as ``pytest-benchmark --benchmark-compare-fail=median:5%``: one process a side, and a fixed limit."""
    old, new = lab.first
    return _sure(np.median(new[:, 0], axis=-1) > 1.05 * np.median(old[:, 0], axis=-1))


def asv(lab: Lab) -> Judgement:
    """Judge as `asv continuous`: Mann and Whitney's test of all samples at p < 0.002, and a factor.

    The factor is set to our floor: with asv's default of 1.1 it finds no slowdown of 5 %.
    """
    pooled_old, pooled_new = (side.reshape(POINTS, -1) for side in lab.first)
    p = mannwhitneyu(pooled_new, pooled_old, axis=-1, method="asymptotic", use_continuity=False).pvalue
    return _sure((p < 0.002) & (np.median(pooled_new, axis=-1) > (1 + FLOOR) * np.median(pooled_old, axis=-1)))


def bootstrap(lab: Lab) -> Judgement:
    """Judge by the low end of a bootstrap interval (percentile method) of the ratio of medians, and by our floor."""
    of_old, of_new = _medians(*lab.first)
    processes = of_old.shape[1]

    def medians(of_processes: Array) -> Array:
        chosen = lab.generator.integers(processes, size=(RESAMPLES, processes))
        found: Array = np.median(of_processes[:, chosen], axis=-1)
        return found

    low = np.percentile(medians(of_new) / medians(of_old), 100 * (1 - CONFIDENCE) / 2, axis=-1)
    return _sure((low > 1) & (np.median(of_new, axis=-1) >= (1 + FLOOR) * np.median(of_old, axis=-1)))


def gate(lab: Lab) -> Judgement:
    """Judge as `moebench gate`, which starts with the first processes and measures more where it has to."""
    stages: list[_Stage] = []

    def begin(keys: Collection[Identity] | None) -> Look:
        sides = lab.first if keys is None else lab.sides(0, LOOKS[0])
        stages.append(_Stage(lab, KEYS if keys is None else list(keys), _log_ratios(*sides)))
        return stages[-1].look

    standings = np.array([verdict.status for verdict in judge(begin)])
    return Judgement(
        slower=standings == Outcome.slower,
        unclear=standings == Outcome.unclear,
        processes=sum(stage.log_ratios.shape[1] for stage in stages),
    )


KEYS: Final = [Identity(x=float(point)) for point in range(POINTS)]


@dataclass
class _Stage:
    """A running measurement of ``keys``: log ratios of the pairs so far, (points, processes)."""

    lab: Lab
    keys: Sequence[Identity]
    log_ratios: Array

    def look(self, processes: int, unclear: Collection[Identity] | None) -> list[Verdict]:
        have = self.log_ratios.shape[1]
        if processes > have:
            self.log_ratios = np.hstack([self.log_ratios, _log_ratios(*self.lab.sides(have, processes))])
        standings = decide([difference(self.log_ratios[KEYS.index(key)]) for key in self.keys])
        return [Verdict(key=key, status=status) for key, status in zip(self.keys, standings, strict=True)]


def _log_ratios(old: Array, new: Array) -> Array:
    """Return the log ratio of each pair of processes, sample by sample as `paired_difference.log_ratio`."""
    found: Array = np.median(np.log(new) - np.log(old), axis=-1)
    return found


def _medians(old: Array, new: Array) -> tuple[Array, Array]:
    return np.median(old, axis=-1), np.median(new, axis=-1)


def _sure(slower: Flags) -> Judgement:
    return Judgement(slower=slower, unclear=np.zeros_like(slower))


RULES: Final[Mapping[str, Rule]] = {"median:5%": fixed, "asv": asv, "bootstrap": bootstrap, "gate": gate}
