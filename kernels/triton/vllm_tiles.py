"""Tiles of vLLM's fused MoE kernel: its parameters by their names in vLLM, and the shared memory they need.

Neither torch nor Triton is imported here, because readers of files of such tiles need neither.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

BLOCKS = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K")
KNOBS = (*BLOCKS, "GROUP_SIZE_M", "num_warps", "num_stages")

OWN_CHOICE: dict[str, int] = dict.fromkeys(KNOBS, 0)
"""The configuration without tiles: vLLM takes those of its own table, or of its heuristic."""

# The values that vLLM's own tuner tries, without groups of 32, which lie between two others.
NVIDIA = ((16, 32, 64, 128, 256), (32, 64, 128, 256), (64, 128, 256), (1, 16, 64), (4, 8), (2, 3, 4, 5))
AMD = ((16, 32, 64, 128, 256), (16, 32, 64, 128, 256), (32, 64, 128, 256), (1, 8, 32), (1, 2, 4, 8), (2,))
RANGES = {"nvidia": NVIDIA, "amd": AMD}


def tilings(maker: str) -> Iterator[dict[str, int]]:
    """Yield every combination of the parameters for devices of ``maker``, "nvidia" or "amd"."""
    for values in itertools.product(*RANGES[maker]):
        yield dict(zip(KNOBS, values, strict=True))


def shared_bytes(tiles: Mapping[str, int], *, row_bytes: int, weight_bytes: int) -> int:
    """Return the least shared memory of one program, for elements of so many bytes; 0 where it is not known.

    Tiles of both operands are in a ring of ``num_stages`` − 1 buffers, as Triton 3.9 allocates it on sm_80, sm_89,
    sm_120 and gfx942. On gfx950, and on sm_90 and sm_100 for products of 64 rows and more, it is one buffer more. With
    a single stage nothing is copied ahead.
    """
    m, n, k = (tiles[name] for name in BLOCKS)
    return (tiles["num_stages"] - 1) * (m * row_bytes + n * weight_bytes) * k
