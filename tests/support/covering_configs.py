"""A choice of configurations, or of other cases, from a space too large to try them all."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations
from typing import TypeVar

from moebench.kernels.config import Config

Choice = TypeVar("Choice")
Feature = TypeVar("Feature")
WORD = re.compile(r"\d+x\d+x\d+w\d+s\d+")
TILE = re.compile(r"\d+x\d+x\d+")


def covering(configs: list[Config]) -> list[Config]:
    """Return configurations that cover all pairs of values that a CPU test can tell apart; the default is first."""
    return cover(configs, pairs)


def cover(choices: list[Choice], features: Callable[[Choice], set[Feature]]) -> list[Choice]:
    """Return few choices that have all features between them, the first of those with the most features first."""
    unseen = [features(choice) for choice in choices]
    taken = []
    while any(unseen):
        best = max(range(len(choices)), key=lambda number: len(unseen[number]))
        taken.append(choices[best])
        met = unseen[best]
        unseen = [left - met for left in unseen]
    return taken


def pairs(config: Config) -> set[tuple[tuple[str, object], ...]]:
    """Return all pairs of a configuration's values but those of two tiles; only a compiler sees warps and stages."""
    seen = sorted((name, _without_warps(value)) for name, value in config.items() if name != "precision")
    return {(one, other) for one, other in combinations(seen, 2) if not (_is_tile(one[1]) and _is_tile(other[1]))}


def _is_tile(value: object) -> bool:
    return isinstance(value, str) and TILE.fullmatch(value) is not None


def _without_warps(value: object) -> object:
    """Return the sides of a tile without its warps and stages; any other value unchanged."""
    return value.partition("w")[0] if isinstance(value, str) and WORD.fullmatch(value) else value
