"""Sorted shares: which part of all rows the fullest expert has, the next one, and so on, counted or expected.

They tell loads apart whichever experts are the popular ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..popularity import choices
from ..problem import Problem

Floats = NDArray[np.float64]

TOKENS: Final = 4096
"""The most tokens whose chance counts. With more the experts of one popularity have nearly equal rows."""
DRAWS: Final = 16  # averaged; the shares of an expert with 16 rows are then known to about 6 %
ROUTER: Final = "softmax_topk"  # of those whose choices are the load's popularity


def sorted_shares(counts_E: Sequence[int] | NDArray[np.int64]) -> Floats:
    """Return each expert's part of the rows, float64 (E,), the largest first; without any row all are zero."""
    rows_E = np.sort(np.asarray(counts_E, dtype=np.float64))[::-1]
    shares_E: Floats = rows_E / max(rows_E.sum(), 1.0)
    return shares_E


def expected_shares(load: str, *, E: int, K: int, tokens: int, seed: int = 0) -> Floats:
    """Return the sorted shares to expect of so many tokens, at most `TOKENS`, float64 (E,).

    Chance alone makes some experts fuller than others, the more so the fewer tokens there are: each expert's rows are
    drawn as binomial, with the probability that a token chooses it, and the sorted shares of some draws are averaged.
    Tokens that follow each other count as independent, also those of a text or a trace. ``seed`` is the problem's,
    which draws the popularity where a load has no fixed one.

    Raises:
        InvalidProblem: for a load that is none, or that E experts of which K are chosen cannot have.
    """
    return _expected_shares(load, E, K, min(tokens, TOKENS), seed)


def nearest_load(shares_E: Floats, loads: Sequence[str], *, K: int, tokens: int) -> str:
    """Return the load whose expected shares for so many tokens differ least from these; of equals the first.

    The difference is the part of the rows that would have to move to other experts, half of Σ |share − expected|.

    Raises:
        ValueError: without loads.
        InvalidProblem: as `expected_shares`.
    """
    E = len(shares_E)

    def moved(load: str) -> float:
        return float(np.abs(shares_E - expected_shares(load, E=E, K=K, tokens=tokens)).sum()) / 2

    return min(loads, key=moved)


@lru_cache(maxsize=1024)
def _expected_shares(load: str, E: int, K: int, tokens: int, seed: int) -> Floats:
    included_E = _included_E(load, E, K, seed)
    rng = np.random.default_rng(0)
    rows_DE = np.sort(rng.binomial(tokens, np.clip(included_E, 0, 1), size=(DRAWS, E)), axis=1)[:, ::-1]
    rows_E: Floats = rows_DE.sum(0).astype(np.float64)
    shares_E: Floats = rows_E / max(rows_E.sum(), 1.0)
    shares_E.flags.writeable = False
    return shares_E


@lru_cache(maxsize=64)
def _included_E(load: str, E: int, K: int, seed: int) -> Floats:
    """Return the probability that a token chooses each expert; it takes milliseconds, a text a tenth of a second."""
    return choices(Problem(T=TOKENS, D=1, F=1, E=E, K=K, load=load, router=ROUTER, seed=seed)).included_E
