"""Traffic of one call, counted from the routes alone: no plan is made and nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..nodes import NodeTopology
from ..problem import ELEMENT_BYTES, SCALE_BYTES, Problem
from ..problem.routing import NO_ROUTE, Routing
from ..problem.shard import Shard, split_evenly
from ..traffic_counter import TrafficCounter
from .expert_replication import most_popular
from .send_plan import Owners, slices
from .wire_format import COUNT_BYTES, Formats

GRADIENT_BYTES = 4  # gradients of copied experts are added up in float32


@dataclass(frozen=True)
class Hop:
    """Rows from each rank to each, ``rows_RR[source, target]``, in ``messages`` messages where there are any."""

    rows_RR: Tensor
    messages: int = 1

    def back(self) -> Hop:
        """Return the hop in the other direction."""
        return Hop(self.rows_RR.T, self.messages)


Rows = Callable[[Problem, Owners, Sequence[Tensor], int], Tensor]
"""A function from the routes (T, K) of every rank to the rows of each chunk between ranks, int64 (chunks, R, R)."""

Hops = Callable[[NodeTopology, Tensor], list[Hop]]
"""A function from the rows between ranks to the hops that they take."""


def rows_by_route(problem: Problem, owners: Owners, ids_RTK: Sequence[Tensor], chunks: int) -> Tensor:
    """Count a row for every route."""
    return _by_chunk(
        ids_RTK,
        chunks,
        lambda ids_TK: torch.bincount(owners.of_routes(ids_TK).flatten() + 1, minlength=problem.ranks + 1),
    )[..., 1:]


def rows_by_rank(problem: Problem, owners: Owners, ids_RTK: Sequence[Tensor], chunks: int) -> Tensor:
    """Count a row for every rank that a token has a route to."""
    ranks_R = torch.arange(problem.ranks)
    return _by_chunk(ids_RTK, chunks, lambda ids_TK: (owners.of_routes(ids_TK)[..., None] == ranks_R).any(1).sum(0))


def rows_by_slot(problem: Problem, owners: Owners, _ids_RTK: Sequence[Tensor], chunks: int) -> Tensor:
    """Count C rows for every expert of the rank with the most experts."""
    widths_C = torch.tensor(split_evenly(problem.capacity or 0, chunks))
    return (widths_C * max(owners.experts_R))[:, None, None].expand(chunks, problem.ranks, problem.ranks)


def rows_for_all(problem: Problem, _owners: Owners, ids_RTK: Sequence[Tensor], chunks: int) -> Tensor:
    """Count every token for every rank."""
    return _by_chunk(ids_RTK, chunks, lambda ids_TK: torch.full((problem.ranks,), len(ids_TK)))


def direct(_topology: NodeTopology, rows_RR: Tensor) -> list[Hop]:
    """Return one hop: a message from each rank to each."""
    return [Hop(rows_RR)]


def two_hops(topology: NodeTopology, rows_RR: Tensor) -> list[Hop]:
    """Return two hops: inside the node to the rank with the receiver's index in its node, then across nodes."""
    inside_RR, across_RR = torch.zeros_like(rows_RR), torch.zeros_like(rows_RR)
    for source in range(topology.ranks):
        for target in range(topology.ranks):
            between = source // topology.per_node * topology.per_node + target % topology.per_node
            inside_RR[source, between] += rows_RR[source, target]
            across_RR[between, target] += rows_RR[source, target]
    return [Hop(inside_RR), Hop(across_RR)]


def ring(topology: NodeTopology, rows_RR: Tensor) -> list[Hop]:
    """Return the hop of a ring all-gather: a rank sends on all blocks but its successor's, padded to the largest."""
    ranks, most = topology.ranks, int(rows_RR.max())
    passed_RR = torch.eye(ranks, dtype=torch.int64) * most
    passed_RR += torch.roll(torch.eye(ranks, dtype=torch.int64), 1, dims=1) * (ranks - 1) * most
    return [Hop(passed_RR, messages=ranks - 1)]


@dataclass(frozen=True, kw_only=True)
class TrafficModel:
    """A model of what a dispatcher sends.

    ``rows`` counts the rows from each rank to each; ``out`` and ``back`` are the hops that they take there and back.
    ``counts_first``: the ranks first tell each other how many rows will come. ``all_routes``: all routes of a token
    travel with a row, else one.
    """

    rows: Rows
    out: Hops
    back: Hops
    counts_first: bool
    all_routes: bool = False

    def width(self, routing: Routing) -> int:
        """Return how many routes travel with a row."""
        return routing.chosen if self.all_routes else 1

    def count(self, problem: Problem, routing: Routing, *, chunks: int, shadows: int) -> tuple[TrafficCounter, ...]:
        """Return a counter for each rank of one call; ``routing`` holds the kept routes of all ranks' tokens."""
        topology, owners = NodeTopology.here(problem.ranks), Owners.of(problem)
        counters = tuple(TrafficCounter(topology, rank) for rank in range(problem.ranks))
        ids_RTK = [routing.ids_TK[Shard.of(problem, rank).tokens].cpu() for rank in range(problem.ranks)]
        if shadows:
            ids_RTK = _shadow(problem, owners, counters, ids_RTK, shadows)
        ones_RR = torch.ones(problem.ranks, problem.ranks, dtype=torch.int64)
        if self.counts_first:
            _note(counters, self.out(topology, ones_RR), COUNT_BYTES * chunks)
        rows_CRR = self.rows(problem, owners, ids_RTK, chunks)
        formats = Formats.of(problem, self.width(routing))
        for rows_RR in rows_CRR:
            _note(counters, self.out(topology, rows_RR), formats.token.bytes)
            _note(counters, self.back(topology, rows_RR), formats.plain.bytes)
            if problem.mode == "train":
                _note(counters, self.out(topology, rows_RR), formats.plain.bytes)
                _note(counters, self.back(topology, rows_RR), formats.gradient.bytes)
        for counter, ids_TK, rows_CR in zip(counters, ids_RTK, rows_CRR.unbind(1), strict=True):
            owner_TK = owners.of_routes(ids_TK)
            counter.rows = int(rows_CR.sum() - rows_CR[:, counter.rank].sum())
            counter.routes = int(((owner_TK >= 0) & (owner_TK != counter.rank)).sum())
        return counters

    def most_rows(self, problem: Problem, routing: Routing) -> int:
        """Return the most rows that a rank sends or receives in one call."""
        ids_RTK = [routing.ids_TK[Shard.of(problem, rank).tokens].cpu() for rank in range(problem.ranks)]
        rows_RR = self.rows(problem, Owners.of(problem), ids_RTK, 1)[0]
        return int(torch.stack((rows_RR.sum(0), rows_RR.sum(1))).max())


def direct_back(topology: NodeTopology, rows_RR: Tensor) -> list[Hop]:
    """Return the hops of `direct` in the other direction."""
    return _back(direct(topology, rows_RR))


def two_hops_back(topology: NodeTopology, rows_RR: Tensor) -> list[Hop]:
    """Return the hops of `two_hops` in the other direction."""
    return _back(two_hops(topology, rows_RR))


def _back(hops: Sequence[Hop]) -> list[Hop]:
    return [hop.back() for hop in reversed(hops)]


def _by_chunk(ids_RTK: Sequence[Tensor], chunks: int, count: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply ``count`` to the tokens of every chunk of every rank."""
    parts_RC = [[ids_TK[part] for part in slices(split_evenly(len(ids_TK), chunks))] for ids_TK in ids_RTK]
    return torch.stack([torch.stack([count(parts_C[c]) for parts_C in parts_RC]) for c in range(chunks)])


def _note(counters: Sequence[TrafficCounter], hops: Sequence[Hop], row_bytes: int) -> None:
    for hop in hops:
        for counter, rows_R in zip(counters, hop.rows_RR.tolist(), strict=True):
            for target, rows in enumerate(rows_R):
                counter.send(target, rows * row_bytes, hop.messages)


def _shadow(
    problem: Problem, owners: Owners, counters: Sequence[TrafficCounter], ids_RTK: Sequence[Tensor], shadows: int
) -> list[Tensor]:
    """Count the traffic of copied experts (shadows). Return the routes that are still sent."""
    counts_RE = [torch.bincount(ids_TK[ids_TK != NO_ROUTE], minlength=problem.E) for ids_TK in ids_RTK]
    chosen_n = most_popular(torch.stack(counts_RE), shadows)
    ranks = problem.ranks
    _note(counters, [Hop(torch.ones(ranks, ranks, dtype=torch.int64))], COUNT_BYTES * problem.E)
    for expert in chosen_n.tolist():
        owner, _ = owners.home(expert)
        for rank in set(range(ranks)) - {owner}:
            for copy_bytes, gradient_bytes in _expert_bytes(problem):
                counters[owner].send(rank, copy_bytes)
                if problem.mode == "train":
                    counters[rank].send(owner, gradient_bytes)
    return [torch.where(torch.isin(ids_TK, chosen_n), NO_ROUTE, ids_TK) for ids_TK in ids_RTK]


def _expert_bytes(problem: Problem) -> list[tuple[int, int]]:
    """Return the bytes of each tensor of an expert's weights, and of its gradient."""
    sizes = [(problem.U * problem.D, problem.operand_bytes), (problem.D * problem.F, problem.operand_bytes)]
    for there, element_bytes in ((problem.bias, ELEMENT_BYTES[problem.dtype]), (problem.quantised, SCALE_BYTES)):
        sizes += [(problem.U, element_bytes), (problem.D, element_bytes)] if there else []
    return [(elements * element_bytes, elements * GRADIENT_BYTES) for elements, element_bytes in sizes]
