"""Launches of ``route_sorting.cu``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import nvrtc

MOST_EXPERTS = 8192
MOST_SCHEDULES = 4

_WARP = 32
_WARPS = 16  # of a block; all count, and as many place as there is shared memory for
_BLOCKS = 128  # every block adds up the histograms of all, so that more would not be faster
_ROUTES = 128  # a warp takes at least so many before another block is worth its start
_ROUTES_ALONE = 256  # of a warp: eight steps, about as long as it takes to start the second launch


class RouteTiles(NamedTuple):
    """Outputs for one tile size: int32 ``expert_M`` and ``block_M`` of M tiles, and ``first_E`` (E + 1,)."""

    rows: int
    expert_M: Tensor
    block_M: Tensor
    first_E: Tensor


def sort_routes(
    ids_N: Tensor,
    service_N: Tensor | None,
    *,
    limit: int,
    capacity: int,
    align: int,
    counts_E: Tensor,
    base_E: Tensor,
    route_R: Tensor,
    slot_N: Tensor,
    tiles: Sequence[tuple[int, int]],
) -> list[RouteTiles]:
    """Fill ``counts_E``, ``base_E``, ``route_R`` and ``slot_N`` (see `Order`); all tensors int32 and contiguous.

    An expert has room for ``capacity`` rows, or when that is 0 for its kept rows rounded up to ``align``. ``tiles``
    are the rows of a tile and the number M of tiles, for each schedule to return.
    """
    routes, experts, rows = ids_N.shape[0], counts_E.shape[0], route_R.shape[0]
    warps, blocks = _cut(routes, experts)
    part = -(-routes // (blocks * warps * _WARP)) * _WARP
    partial_PE = ids_N.new_empty(blocks, experts) if blocks > 1 else None
    schedules, found = _room_for(tiles, experts, ids_N.device)
    launch = partial(nvrtc.launch, "route_sorting", device=ids_N.device, grid=blocks, threads=_WARPS * _WARP)
    segment = (ids_N, service_N, np.int64(routes), np.int32(experts), np.int64(part * warps), partial_PE)
    unused = [(0, 0)] * (MOST_SCHEDULES - len(tiles))
    if partial_PE is not None:
        launch("count_routes", *segment, shared=4 * experts)
    launch(
        "place_routes",
        *segment,
        *(np.int32(number) for number in (warps, limit, capacity, align, rows)),
        *(counts_E, base_E, route_R, slot_N, schedules),
        *(np.int32(number) for pair in (*tiles, *unused) for number in pair),
        shared=4 * ((warps + 1) * experts + _WARP),
    )
    return found


def launches(routes: int, experts: int) -> int:
    """Return how many launches `sort_routes` takes: one for up to 4096 routes, or fewer with over 1443 experts."""
    _, blocks = _cut(routes, experts)
    return 1 if blocks == 1 else 2


def _cut(routes: int, experts: int) -> tuple[int, int]:
    """Return how many warps of a block place routes, and how many blocks there are."""
    warps = min(_WARPS, max(1, (nvrtc.SHARED_BYTES // 4 - _WARP) // experts - 1))
    blocks = 1 if routes <= warps * _ROUTES_ALONE else min(_BLOCKS, -(-routes // (warps * _ROUTES)))
    return warps, blocks


def _room_for(tiles: Sequence[tuple[int, int]], experts: int, device: torch.device) -> tuple[Tensor, list[RouteTiles]]:
    """Return one buffer for all schedules and views of it, each aligned to 16 bytes, as fits Triton's loads best."""
    sizes = [size for _, most in tiles for size in (most, most, experts + 1)]
    buffer = torch.empty(sum(_aligned(size) for size in sizes), dtype=torch.int32, device=device)
    start, views = 0, []
    for size in sizes:
        views.append(buffer[start : start + size])
        start += _aligned(size)
    return buffer, [RouteTiles(rows, *views[3 * s : 3 * s + 3]) for s, (rows, _) in enumerate(tiles)]


def _aligned(size: int) -> int:
    return -(-size // 4) * 4
