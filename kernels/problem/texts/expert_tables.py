"""Tables from token ids to experts, as hash layers have them: made before training, and never changed."""

from __future__ import annotations

import heapq
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .hashed_experts import hashed_logits
from .hashed_words import VOCABULARY
from .novel import novel_ids

Table = NDArray[np.int32]
IDS = 2048  # whose logits for all experts are in memory at a time


@lru_cache(maxsize=8)
def random_table(experts: int, chosen: int, *, seed: int) -> Table:
    """Return K distinct experts for every id of the vocabulary, each equally likely, int32 (`VOCABULARY`, K)."""
    parts = []
    for first in range(0, VOCABULARY, IDS):
        logits = hashed_logits(np.arange(first, first + IDS), experts, seed=seed)
        parts.append(np.argsort(-logits, axis=1, kind="stable")[:, :chosen])
    return _kept(np.concatenate(parts))


@lru_cache(maxsize=8)
def balanced_table(experts: int, chosen: int) -> Table:
    """Return K distinct experts for every id, int32 (`VOCABULARY`, K), balanced for the frequencies of the novel.

    From the most frequent id on, each takes the K experts with the fewest tokens so far, the lower expert first (Roller
    et al. 2021, balanced assignment). Ids that the novel does not have are those of `random_table`.
    """
    counts = np.bincount(novel_ids(), minlength=VOCABULARY)
    table = random_table(experts, chosen, seed=0).copy()
    loads = [(0, expert) for expert in range(experts)]
    for token in np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]:
        lightest = [heapq.heappop(loads) for _ in range(chosen)]
        table[token] = [expert for _, expert in lightest]
        for load, expert in lightest:
            heapq.heappush(loads, (load + int(counts[token]), expert))
    return _kept(table)


def _kept(table: NDArray[np.signedinteger]) -> Table:
    kept = np.ascontiguousarray(table, dtype=np.int32)
    kept.flags.writeable = False
    return kept
