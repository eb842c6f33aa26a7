"""Capacity rules: how many rows one expert takes, as the published systems count them.

With T tokens of one rank, K experts per token, E experts and the capacity factor f:

    ceil    ceil(f T K / E)                       GShard's text, DeepSpeed without its minimum; the rule of this project
    floor   floor(f T K / E)                      MegaBlocks, FastMoE
    gshard  max(4, floor(f T K / E))              GShard's released gating (Lepikhin et al. 2020, algorithm 1)
    tutel   K floor(f ceil(T / E))                Tutel (Hwang et al. 2022)
    vmoe    ceil(f T K / E), up to a multiple of 4    V-MoE's released code (Riquelme et al. 2021)

For T = 1000, E = 64, K = 2 and f = 1.25 they give 40, 39, 39, 40 and 40.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Final, Literal

CapacityRule = Literal["ceil", "floor", "gshard", "tutel", "vmoe"]

GSHARD_LEAST = 4
VMOE_MULTIPLE = 4


def _rows_per_expert(f: Fraction, T: int, K: int, E: int) -> Fraction:
    return f * T * K / E


_RULES: Final[Mapping[CapacityRule, Callable[[Fraction, int, int, int], int]]] = {
    "ceil": lambda f, T, K, E: math.ceil(_rows_per_expert(f, T, K, E)),
    "floor": lambda f, T, K, E: math.floor(_rows_per_expert(f, T, K, E)),
    "gshard": lambda f, T, K, E: max(GSHARD_LEAST, math.floor(_rows_per_expert(f, T, K, E))),
    "tutel": lambda f, T, K, E: K * math.floor(f * -(-T // E)),
    "vmoe": lambda f, T, K, E: VMOE_MULTIPLE * math.ceil(_rows_per_expert(f, T, K, E) / VMOE_MULTIPLE),
}


def rows_of_expert(rule: CapacityRule, factor: float, *, T: int, K: int, E: int) -> int:
    """Return C, the rows that one expert takes of T tokens: by the rule, at least 1 and at most T.

    The factor is the decimal number that it prints as: in binary 1.1 * 10 is more than 11 and would round up to 12.
    """
    return max(1, min(_RULES[rule](Fraction(str(factor)), T, K, E), T))
