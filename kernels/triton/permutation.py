"""The kept routes in expert order, and the tiles that cover them: metadata that never leaves the device.

Nothing here waits for the device. The host knows only shapes: the buffers are as large as any routing of N routes can
need, and what a routing does not use is -1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..cuda import nvrtc
from ..cuda.route_sorting import MOST_EXPERTS, MOST_SCHEDULES, sort_routes
from ..problem.routing import NO_ROUTE

Number = TypeVar("Number", int, Tensor)

INT32_MAX = torch.iinfo(torch.int32).max


@dataclass(frozen=True, kw_only=True)
class Blocked:
    """The rows of every expert are rounded up to a multiple of ``block``; a block of one row leaves no gap."""

    block: int

    def rows(self, routes: int, experts: int, limit: int) -> int:
        """Return R, enough for any routing of ``routes`` routes of which an expert takes at most ``limit``."""
        return self.block * _most_tiles(routes, experts, self.block, limit)

    def room_E(self, counts_E: Tensor) -> Tensor:
        """Rows that every expert occupies in the buffer."""
        return _ceil_div(counts_E, self.block) * self.block


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Every expert has ``capacity`` rows, filled or not, and drops the routes beyond them."""

    capacity: int

    def rows(self, routes: int, experts: int, limit: int) -> int:
        """Return R = E * C."""
        return self.capacity * experts

    def room_E(self, counts_E: Tensor) -> Tensor:
        """Rows that every expert occupies in the buffer."""
        return torch.full_like(counts_E, self.capacity)


Layout = Blocked | Capacity
COMPACT = Blocked(block=1)


@dataclass(frozen=True, kw_only=True)
class Order:
    """The kept routes in expert order, in a buffer of R rows; every tensor is int32.

    ``counts_E`` are the kept rows of every expert and ``base_E`` the first row of each. ``route_R`` is the flat route
    t * K + k at every row, -1 where the buffer has no row. ``slot_N`` is the row of every route, -1 for a route that is
    missing, out of range or dropped. The rows of one expert are in the order in which they were served.
    """

    counts_E: Tensor
    base_E: Tensor
    route_R: Tensor
    slot_N: Tensor
    chosen: int

    @property
    def experts(self) -> int:
        """E."""
        return self.counts_E.shape[0]

    @property
    def rows(self) -> int:
        """R, rows of the buffer."""
        return self.route_R.shape[0]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Tiles of ``rows`` rows, expert by expert; every tensor is int32.

    Tile m covers rows from ``base_E[e] + block_M[m] * rows`` of expert e = ``expert_M[m]``, as far as its counts_E[e]
    rows go. ``first_E`` (E + 1,) is the first tile of every expert, and at its end the number of used tiles. The
    entries after those are -1 in both ``expert_M`` and ``block_M``.
    """

    rows: int
    expert_M: Tensor
    block_M: Tensor
    first_E: Tensor


def block_bound(rows: int, experts: int, block: int) -> int:
    """Return the largest number of blocks of ``block`` rows that ``rows`` rows of ``experts`` experts can need.

    All experts but one have a single row, and the last one has the rest.
    """
    if rows < experts:
        return rows
    return experts - 1 + _ceil_div(rows - experts + 1, block)


def order(
    ids_TK: Tensor,
    *,
    experts: int,
    layout: Layout,
    blocks: tuple[int, ...],
    limit: int | None = None,
    service_N: Tensor | None = None,
) -> tuple[Order, tuple[Schedule, ...]]:
    """Order the routes ``ids_TK`` (int32) by expert, and cover the kept rows with tiles, once for each of ``blocks``.

    Routes are served in token order, or in the order of ``service_N`` (int32, a permutation of the N routes). Each
    expert keeps the first ``limit`` routes it is served, by default all that its layout has room for. An id outside
    [0, experts) is no route.

    Raises:
        ValueError: for ids or a service order that are not int32 or not on one device, and when the buffer would have
            more rows than int32 can count.
    """
    for name, tensor in (("ids", ids_TK), ("the service order", service_N)):
        if tensor is not None and (tensor.dtype, tensor.device) != (torch.int32, ids_TK.device):
            raise ValueError(f"{name}: {tensor.dtype} on {tensor.device}, give torch.int32 on {ids_TK.device}")
    routes = ids_TK.numel()
    limit = max(1, routes) if limit is None else limit
    if isinstance(layout, Capacity):
        limit = min(limit, layout.capacity)
    rows = layout.rows(routes, experts, limit)
    if max(rows, routes) > INT32_MAX:
        raise ValueError(f"{routes} routes to {experts} experts need {rows} rows, more than int32 counts: give fewer")
    tiles = tuple((block, _most_tiles(routes, experts, block, limit)) for block in blocks)
    fits = experts <= MOST_EXPERTS and len(blocks) <= MOST_SCHEDULES
    backend = _in_cuda if fits and nvrtc.usable(ids_TK) else _in_torch
    return backend(ids_TK, service_N, experts=experts, layout=layout, rows=rows, limit=limit, tiles=tiles)


def _in_torch(
    ids_TK: Tensor,
    service_N: Tensor | None,
    *,
    experts: int,
    layout: Layout,
    rows: int,
    limit: int,
    tiles: tuple[tuple[int, int], ...],
) -> tuple[Order, tuple[Schedule, ...]]:
    ids_N = ids_TK.flatten()
    # Missing routes are sorted behind the last expert.
    expert_N = torch.where((ids_N >= 0) & (ids_N < experts), ids_N, experts)
    if service_N is not None:
        expert_N = expert_N[service_N]
    expert_N, turn_N = torch.sort(expert_N, stable=True)
    bounds_E = torch.searchsorted(expert_N, torch.arange(experts + 1, dtype=torch.int32, device=ids_N.device))
    counts_E = bounds_E.diff().clamp(max=limit)
    base_E = _before(layout.room_E(counts_E))
    place_N = torch.arange(ids_N.numel(), device=ids_N.device) - bounds_E[expert_N]
    kept_N = (expert_N < experts) & (place_N < limit)
    row_N = base_E[expert_N.clamp(max=experts - 1)] + place_N
    route_N = turn_N if service_N is None else service_N[turn_N].long()
    slot_N = torch.empty_like(ids_N).scatter_(0, route_N, torch.where(kept_N, row_N, NO_ROUTE).int())
    # One row more takes what is not kept.
    route_R = ids_N.new_full((rows + 1,), NO_ROUTE).scatter_(0, torch.where(kept_N, row_N, rows), route_N.int())
    found = Order(
        counts_E=counts_E.int(),
        base_E=base_E.int(),
        route_R=route_R[:rows],
        slot_N=slot_N,
        chosen=ids_TK.shape[1],
    )
    return found, tuple(_schedule(counts_E, block, most) for block, most in tiles)


def _schedule(counts_E: Tensor, block: int, most: int) -> Schedule:
    last_E = _ceil_div(counts_E, block).cumsum(0)
    first_E = torch.cat((last_E.new_zeros(1), last_E))
    tile_M = torch.arange(most, device=counts_E.device)
    expert_M = torch.searchsorted(last_E, tile_M, right=True)
    unused_M = tile_M >= last_E[-1]
    block_M = tile_M - first_E[expert_M]
    return Schedule(
        rows=block,
        expert_M=expert_M.masked_fill(unused_M, NO_ROUTE).int(),
        block_M=block_M.masked_fill(unused_M, NO_ROUTE).int(),
        first_E=first_E.int(),
    )


def _in_cuda(
    ids_TK: Tensor,
    service_N: Tensor | None,
    *,
    experts: int,
    layout: Layout,
    rows: int,
    limit: int,
    tiles: tuple[tuple[int, int], ...],
) -> tuple[Order, tuple[Schedule, ...]]:
    found = Order(
        counts_E=ids_TK.new_empty(experts),
        base_E=ids_TK.new_empty(experts),
        route_R=ids_TK.new_empty(rows),
        slot_N=ids_TK.new_empty(ids_TK.numel()),
        chosen=ids_TK.shape[1],
    )
    schedules = sort_routes(
        ids_TK.flatten().contiguous(),
        None if service_N is None else service_N.contiguous(),
        limit=limit,
        capacity=layout.capacity if isinstance(layout, Capacity) else 0,
        align=layout.block if isinstance(layout, Blocked) else 1,
        counts_E=found.counts_E,
        base_E=found.base_E,
        route_R=found.route_R,
        slot_N=found.slot_N,
        tiles=tiles,
    )
    return found, tuple(
        Schedule(rows=rows, expert_M=expert_M, block_M=block_M, first_E=first_E)
        for rows, expert_M, block_M, first_E in schedules
    )


def _most_tiles(routes: int, experts: int, block: int, limit: int) -> int:
    return min(block_bound(routes, experts, block), experts * _ceil_div(limit, block))


def _ceil_div(number: Number, divisor: int) -> Number:
    return -(-number // divisor)


def _before(size_E: Tensor) -> Tensor:
    """Return the sum of all earlier entries, for every entry."""
    return size_E.cumsum(0) - size_E
