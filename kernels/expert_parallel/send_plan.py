"""Plans of the rows that a rank sends: a copy of a token for every route, for every rank with a route, or for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..problem import Problem
from ..problem.routing import NO_ROUTE, Routing, queue_positions
from ..problem.shard import split_evenly

NOWHERE = -1  # the token or the route of a row that is padding


@dataclass(frozen=True, kw_only=True)
class SendPlan:
    """The rows that one rank sends in one call: chunk after chunk, and within a chunk rank after rank.

    ``token_M`` int64, the token that each row is a copy of. ``route_Mk`` int64, the flat index t * K + k of the routes
    that travel with it, −1 for none. ``chunks`` are the rows of each chunk, ``send_CR`` how many of them go to each
    rank.

    Rows come back in the same order, except with an all-gather: ``back_M`` and ``back_Mk`` are the token and the routes
    of each returned row, −1 for none.
    """

    token_M: Tensor
    route_Mk: Tensor
    chunks: list[slice]
    send_CR: list[list[int]]
    back_M: Tensor
    back_Mk: Tensor

    @property
    def width(self) -> int:
        """Routes that travel with a row."""
        return self.route_Mk.shape[1]


def slices(sizes: Sequence[int]) -> list[slice]:
    """Return consecutive slices of these sizes."""
    ends = [0]
    for size in sizes:
        ends.append(ends[-1] + size)
    return [slice(start, end) for start, end in pairwise(ends)]


@dataclass(frozen=True)
class Owners:
    """The owner of every expert: experts in order, split evenly over the ranks."""

    experts_R: list[int]

    @staticmethod
    def of(problem: Problem) -> Owners:
        return Owners(split_evenly(problem.E, problem.ranks))

    def first(self, rank: int) -> int:
        """Return the first expert of a rank."""
        return sum(self.experts_R[:rank])

    def home(self, expert: int) -> tuple[int, int]:
        """Return the rank that holds an expert, and the expert's index there."""
        rank = 0
        while expert >= self.experts_R[rank]:
            expert -= self.experts_R[rank]
            rank += 1
        return rank, expert

    def rank_E(self, device: torch.device) -> Tensor:
        """Return the rank that holds each expert, int64 (E,)."""
        sizes_R = torch.tensor(self.experts_R, device=device)
        return torch.arange(len(self.experts_R), device=device).repeat_interleave(sizes_R)

    def of_routes(self, ids_TK: Tensor) -> Tensor:
        """Return the rank that each route leads to, int64 of the shape of the ids; −1 for no route."""
        rank_E = self.rank_E(ids_TK.device)
        return torch.where(ids_TK == NO_ROUTE, NOWHERE, rank_E[ids_TK.clamp(min=0).long()])


def by_route(problem: Problem, routing: Routing, owners: Owners, chunks: int) -> SendPlan:
    """Plan a row for every route, the rows of a chunk in expert order, as most systems since GShard send them."""
    ids_N = routing.ids_TK.flatten()
    chunk_N = _chunk_T(routing, chunks).repeat_interleave(routing.chosen)
    expert_N = torch.where(ids_N == NO_ROUTE, problem.E, ids_N)
    order_N = torch.argsort(chunk_N * (problem.E + 1) + expert_N, stable=True)
    route_M = order_N[ids_N[order_N] != NO_ROUTE]
    rank_M = owners.of_routes(ids_N[route_M])
    send_CR = _counts(chunk_N[route_M], rank_M, chunks, problem.ranks)
    return _mirrored(route_M // routing.chosen, route_M[:, None], send_CR)


def by_rank(problem: Problem, routing: Routing, owners: Owners, chunks: int) -> SendPlan:
    """Plan one row for every rank that a token has a route to, however many of its experts are there (DeepEP)."""
    tokens, chosen = routing.ids_TK.shape
    rank_TK = owners.of_routes(routing.ids_TK)
    goes_TR = torch.zeros(tokens, problem.ranks + 1, dtype=torch.bool, device=rank_TK.device)
    goes_TR.scatter_(1, rank_TK % (problem.ranks + 1), True)  # no route: in the last column
    chunk_T = _chunk_T(routing, chunks)
    token_M, rank_M = goes_TR[:, :-1].nonzero(as_tuple=True)
    order_M = torch.argsort(chunk_T[token_M] * problem.ranks + rank_M, stable=True)
    token_M, rank_M = token_M[order_M], rank_M[order_M]
    send_CR = _counts(chunk_T[token_M], rank_M, chunks, problem.ranks)
    route_Mk = token_M[:, None] * chosen + torch.arange(chosen, device=token_M.device)
    return _mirrored(token_M, torch.where(rank_TK[token_M] == rank_M[:, None], route_Mk, NOWHERE), send_CR)


def by_slot(problem: Problem, routing: Routing, owners: Owners, chunks: int) -> SendPlan:
    """Plan C rows for every expert, filled or not: equal splits, so that no counts are exchanged (GShard, Tutel).

    ``routing`` lacks the routes that the capacity drops. Every rank is sent as many rows as the one with the most
    experts. A chunk is a range of places in the queues.
    """
    capacity, slots, device = problem.capacity or 0, max(owners.experts_R), routing.ids_TK.device
    route_n = (routing.ids_TK.flatten() != NO_ROUTE).nonzero()[:, 0]
    expert_n = routing.ids_TK.flatten()[route_n].long()
    position_n = queue_positions(routing, problem.drop).flatten()[route_n]
    rank_n = owners.of_routes(expert_n)
    first_R = torch.tensor([owners.first(rank) for rank in range(problem.ranks)], device=device)
    places = slices(split_evenly(capacity, chunks))
    width_C = torch.tensor([place.stop - place.start for place in places], device=device)
    start_C = torch.tensor([place.start for place in places], device=device)
    chunk_n = torch.searchsorted(start_C, position_n, right=True) - 1
    row_n = (rank_n * slots + expert_n - first_R[rank_n]) * width_C[chunk_n] + position_n - start_C[chunk_n]
    row_n += problem.ranks * slots * start_C[chunk_n]
    route_M = torch.full((problem.ranks * slots * capacity,), NOWHERE, device=device)
    route_M[row_n] = route_n
    send_CR = [[slots * (place.stop - place.start)] * problem.ranks for place in places]
    token_M = torch.where(route_M == NOWHERE, NOWHERE, route_M // routing.chosen)
    return _mirrored(token_M, route_M[:, None], send_CR)


def for_all(problem: Problem, routing: Routing, owners: Owners, chunks: int) -> SendPlan:
    """Plan every token for all ranks; each rank sends back one row for every token.

    A row is sent once, whatever number of ranks it reaches.
    """
    tokens, chosen = routing.ids_TK.shape
    device = routing.ids_TK.device
    token_T = torch.arange(tokens, device=device)
    route_TK = token_T[:, None] * chosen + torch.arange(chosen, device=device)
    rank_TK = owners.of_routes(routing.ids_TK)
    parts = slices(split_evenly(tokens, chunks))
    home = [(part, rank) for part in parts for rank in range(problem.ranks)]
    back_Mk = [torch.where(rank_TK[part] == rank, route_TK[part], NOWHERE) for part, rank in home]
    return SendPlan(
        token_M=token_T,
        route_Mk=torch.where(rank_TK == NOWHERE, NOWHERE, route_TK),
        chunks=parts,
        send_CR=[[part.stop - part.start] * problem.ranks for part in parts],
        back_M=torch.cat([token_T[part] for part, _ in home]),
        back_Mk=torch.cat(back_Mk),
    )


def _chunk_T(routing: Routing, chunks: int) -> Tensor:
    """Return the chunk of every token, int64: tokens in order, split evenly."""
    device = routing.ids_TK.device
    sizes_C = torch.tensor(split_evenly(routing.ids_TK.shape[0], chunks), device=device)
    return torch.arange(chunks, device=device).repeat_interleave(sizes_C)


def _counts(chunk_M: Tensor, rank_M: Tensor, chunks: int, ranks: int) -> list[list[int]]:
    """Return the rows of each chunk for each rank, on the host, because collectives take sizes from there."""
    counts: list[list[int]] = (
        torch.bincount(chunk_M * ranks + rank_M, minlength=chunks * ranks).view(chunks, -1).tolist()
    )
    return counts


def _mirrored(token_M: Tensor, route_Mk: Tensor, send_CR: list[list[int]]) -> SendPlan:
    """Return the plan whose rows come back in the order in which they were sent."""
    chunks = slices([sum(send_R) for send_R in send_CR])
    return SendPlan(
        token_M=token_M, route_Mk=route_Mk, chunks=chunks, send_CR=send_CR, back_M=token_M, back_Mk=route_Mk
    )
