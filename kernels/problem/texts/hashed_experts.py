"""Experts by hashing token ids: every token id has a fixed logit for every expert, so that equal tokens choose alike.

The logit is Gumbel noise of a uniform number that is the hash of the token id, the expert and a seed. The K largest are
K distinct experts, each K of E equally likely for an id (rendezvous hashing, Thaler and Ravishankar 1998), so that what
is skewed is the frequency of tokens alone; and every router makes of them what it makes of other logits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .novel import novel_ids

Words = NDArray[np.uint64]
STEP = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio, as SplitMix64 steps (Steele, Lea and Flood 2014)


def hashed_logits(token_T: NDArray[np.int64], columns: int, *, seed: int) -> NDArray[np.float32]:
    """Return the logits of tokens for experts, float32 (T, columns); those of further columns change none before."""
    ids, place_T = np.unique(token_T, return_inverse=True)
    state_T = _mixed(ids.astype(np.uint64) + _mixed(np.array([seed], np.uint64)))
    hash_TE = _mixed(state_T[:, None] + np.arange(1, columns + 1, dtype=np.uint64) * np.uint64(STEP))
    uniform_TE = ((hash_TE >> np.uint64(11)) + 0.5) * 2.0**-53  # neither 0 nor 1
    logits_TE: NDArray[np.float32] = -np.log(-np.log(uniform_TE)).astype(np.float32)
    return logits_TE[place_T.reshape(-1)]


@lru_cache(maxsize=4)
def novel_experts(experts: int, chosen: int, *, seed: int) -> NDArray[np.int32]:
    """Return the experts of every token of the built-in text, largest logit first, int32 (tokens, K), read-only."""
    ids, place_T = np.unique(novel_ids(), return_inverse=True)
    order_TE = np.argsort(-hashed_logits(ids, experts, seed=seed), axis=1, kind="stable")
    chosen_TK: NDArray[np.int32] = order_TE[:, :chosen].astype(np.int32)[place_T.reshape(-1)]
    chosen_TK.flags.writeable = False
    return chosen_TK


def _mixed(words: Words) -> Words:
    """Return the finalizer of SplitMix64: every bit of a word changes about half of the result's."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
