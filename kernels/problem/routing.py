"""Routes of tokens to experts, and the orders in which implementations process them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .problem import DropPolicy

NO_ROUTE = -1
FEW = 64  # ids that Python compares sooner than torch
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
"""Dtypes of ids that torch can hardly compute with."""


@dataclass(frozen=True, kw_only=True)
class Routing:
    """The experts of each token with their gate weights; every implementation gets the same object.

    K is that of the problem, or, where the router gives tokens different numbers of experts, the largest of a token.
    ``ids_TK`` int32 in [0, experts), or −1 for no route; ``gates_TK`` float32. Two equal ids in a row add up. The gate
    weight of an absent route is never read: it may be NaN, and its gradient is zero.

    Raises:
        ValueError: at construction, when shapes or dtypes disagree. Values are not checked: that would wait for a GPU.
    """

    ids_TK: Tensor
    gates_TK: Tensor
    experts: int

    def __post_init__(self) -> None:
        if self.ids_TK.ndim != 2 or self.ids_TK.shape != self.gates_TK.shape:
            raise ValueError(
                f"ids {tuple(self.ids_TK.shape)} and gates {tuple(self.gates_TK.shape)} must both be (T, K)"
            )
        if self.ids_TK.dtype != torch.int32 or self.gates_TK.dtype != torch.float32:
            raise ValueError(f"ids are {self.ids_TK.dtype}, gates {self.gates_TK.dtype}: give int32 and float32")

    @classmethod
    def of_ids(cls, ids_TK: Tensor, gates_TK: Tensor, *, experts: int) -> Routing:
        """Return routes from ids of any integer dtype; an id outside 0 … E − 1 is no route."""
        if ids_TK.dtype in UNSIGNED:
            ids_TK = ids_TK.long()
        if ids_TK.is_cpu and _every_id_is_an_expert(ids_TK, experts):
            return cls(ids_TK=ids_TK.int(), gates_TK=gates_TK, experts=experts)
        present_TK = (ids_TK >= 0) & (ids_TK < experts)
        return cls(ids_TK=torch.where(present_TK, ids_TK, NO_ROUTE).int(), gates_TK=gates_TK, experts=experts)

    @property
    def chosen(self) -> int:
        """K, routes per token."""
        return self.ids_TK.shape[1]

    def counts_E(self) -> Tensor:
        """Return the number of rows that each expert receives, int64 (E,)."""
        return count_routes(self.ids_TK, self.experts)

    def touched(self) -> int:
        """Return how many experts receive a row; on a GPU the host waits for it."""
        return int((self.counts_E() > 0).sum())


def _every_id_is_an_expert(ids_TK: Tensor, experts: int) -> bool:
    """Look at the smallest and the largest id, which takes a third of a comparison of all."""
    count = ids_TK.numel()
    if count <= FEW:
        return all(0 <= one < experts for row in ids_TK.tolist() for one in row)
    lowest, highest = ids_TK.aminmax()
    return int(lowest) >= 0 and int(highest) < experts


def count_routes(ids_TK: Tensor, experts: int) -> Tensor:
    """Return the number of routes to each expert, int64 (E,); the host does not wait for the device."""
    # Those of no route count too, which takes less time than to leave them out.
    entry_N = ids_TK.flatten() - NO_ROUTE
    if ids_TK.device.type == "cpu":  # elsewhere bincount asks the device for the smallest and the largest entry
        return torch.bincount(entry_N, minlength=experts + 1)[1:]
    entry_N = entry_N.long()
    return entry_N.new_zeros(experts + 1).scatter_add_(0, entry_N, torch.ones_like(entry_N))[1:]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """The routed rows in expert order, which dispatch builds and combine needs.

    ``route_N`` int64 is the flat index t * K + k of each row in expert order. Missing routes are left out, so its
    length is the number of kept rows. Rows of one expert keep token order. ``counts`` has the rows of each expert.
    """

    route_N: Tensor
    counts: list[int]
    chosen: int

    @property
    def token_N(self) -> Tensor:
        """The token of each row, int64."""
        return self.route_N // self.chosen

    def slices(self) -> list[tuple[int, int, int]]:
        """Return (expert, first row, end row) for every expert that has rows."""
        found, start = [], 0
        for expert, count in enumerate(self.counts):
            if count:
                found.append((expert, start, start + count))
            start += count
        return found


def group_by_expert(routing: Routing) -> Groups:
    """Sort the routes by expert, stably. The counts go to the host: on a GPU this is the only synchronisation."""
    counts = routing.counts_E().tolist()
    order_N = torch.argsort(routing.ids_TK.flatten(), stable=True)
    without_route = order_N.numel() - sum(counts)
    return Groups(route_N=order_N[without_route:], counts=counts, chosen=routing.chosen)


def widened(routing: Routing, chosen: int) -> Routing:
    """Return routes with absent ones added behind, up to ``chosen`` for every token."""
    missing = chosen - routing.chosen
    if not missing:
        return routing
    return Routing(
        ids_TK=functional.pad(routing.ids_TK, (0, missing), value=NO_ROUTE),
        gates_TK=functional.pad(routing.gates_TK, (0, missing)),
        experts=routing.experts,
    )


def with_every_route(routing: Routing) -> Routing:
    """Give absent routes an expert, with gate 0, for implementations that read every route.

    It is an expert that the token has already, else one that another token has: an expert that nobody chose, whose
    weights may be anything, stays unread.
    """
    present_TK = routing.ids_TK != NO_ROUTE
    if not present_TK.numel():
        return routing
    own_T1 = routing.ids_TK.amax(1, keepdim=True)
    given_T1 = torch.where(own_T1 == NO_ROUTE, own_T1.max().clamp(min=0), own_T1)
    return Routing(
        ids_TK=torch.where(present_TK, routing.ids_TK, given_T1),
        gates_TK=torch.where(present_TK, routing.gates_TK, 0),
        experts=routing.experts,
    )


def service_order(routing: Routing, policy: DropPolicy) -> Tensor | None:
    """Return the routes in the order in which a drop policy serves them, int32 (T * K,); None if it is their own.

    With ``first_choices`` all first choices come before all second ones, tokens in order (GShard, Lepikhin et al.
    2020, algorithm 1). With ``gate_weight`` too, but within a choice the token with the largest gate weight comes first
    (V-MoE's batch priority routing, Riquelme et al. 2021). Of a token count the weights of its routes; one that is NaN
    counts as the smallest.
    """
    if policy == "first_come":
        return None
    (tokens, chosen), device = routing.ids_TK.shape, routing.ids_TK.device
    if policy == "first_choices":
        return torch.arange(tokens * chosen, dtype=torch.int32, device=device).view(tokens, chosen).T.flatten()
    gates_TK = routing.gates_TK.detach()
    counts_TK = (routing.ids_TK != NO_ROUTE) & ~gates_TK.isnan()
    largest_T = torch.where(counts_TK, gates_TK, -torch.inf).amax(1)
    token_T = torch.argsort(largest_T, descending=True, stable=True)
    choice_K = torch.arange(chosen, device=device)
    return (token_T * chosen + choice_K[:, None]).flatten().int()


def queue_positions(routing: Routing, policy: DropPolicy) -> Tensor:
    """Return the position of every route in its expert's queue, int64 (T, K); positions below the capacity are kept.

    Routes are served in the order of `service_order`.
    """
    tokens, chosen = routing.ids_TK.shape
    service_N = service_order(routing, policy)
    if service_N is None:
        service_N = torch.arange(tokens * chosen, device=routing.ids_TK.device)
    service_N = service_N.long()
    ids_N = routing.ids_TK.flatten()[service_N]
    order_N = torch.argsort(ids_N, stable=True)
    sorted_N = ids_N[order_N]
    first_N = torch.searchsorted(sorted_N, sorted_N)
    position_N = torch.empty_like(service_N)
    position_N[service_N[order_N]] = torch.arange(service_N.numel(), device=order_N.device) - first_N
    return position_N.view(tokens, chosen)


def within_capacity(routing: Routing, policy: DropPolicy, capacity: int) -> Routing:
    """Keep the routes among the first ``capacity`` of their experts' queues; set the others to −1."""
    kept_TK = queue_positions(routing, policy) < capacity
    ids_TK = torch.where(kept_TK, routing.ids_TK, NO_ROUTE)
    return Routing(ids_TK=ids_TK, gates_TK=routing.gates_TK, experts=routing.experts)
