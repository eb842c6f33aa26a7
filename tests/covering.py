"""A choice of configurations from a space too large to try them all."""

from __future__ import annotations

import re
from itertools import combinations

from moebench.kernels.kernel import Config


def covering(configs: list[Config]) -> list[Config]:
    """Enough of a space that every two values that a test on a CPU can tell have met; the default is the first."""
    unseen = {id(config): pairs(config) for config in configs}
    taken = []
    while any(unseen.values()):
        best = max(configs, key=lambda config: len(unseen[id(config)]))
        taken.append(best)
        met = unseen[id(best)]
        unseen = {name: left - met for name, left in unseen.items()}
    return taken


def pairs(config: Config) -> set[tuple[tuple[str, object], ...]]:
    """Every two of its values; how many warps and stages there are, and of which precision, only a compiler sees."""
    seen = {name: _without_warps(value) for name, value in config.items() if name != "precision"}
    return set(combinations(sorted(seen.items()), 2))


def _without_warps(value: object) -> object:
    """A tile's sides without its warps and stages; any other value as it is."""
    return re.sub(r"w\d+s\d+$", "", value) if isinstance(value, str) else value
