"""What each dispatcher sends: the collectives of a call in order, and the rows that every rank packs and multiplies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ...kernels.expert_parallel.wire_format import COUNT_BYTES, Formats
from ...kernels.problem import Problem
from .collectives import Transfer, all_to_all, between, equal, inside, ring, two_hops
from .expected_rows import RowDistribution
from .layout import Layout
from .routing_distribution import PerToken, RoutingDistribution


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One chunk of a forward: rows ``there`` and ``back``, one collective after the other.

    ``counts``, in bytes, go before the first chunk, for all. A dispatched row carries ``routes`` ids and gates. Rows of
    every rank: ``sent`` and ``received`` stand in buffers, ``computed`` go through the experts, ``copied`` are read and
    written once on the way.
    """

    counts: tuple[Transfer, ...] = ()
    there: tuple[Transfer, ...]
    back: tuple[Transfer, ...]
    routes: int
    sent: RowDistribution
    received: RowDistribution
    computed: RowDistribution
    copied: RowDistribution

    def transfers(self, problem: Problem) -> tuple[Transfer, ...]:
        """The collectives that move rows, in bytes; gradients go out as the tokens did and back as the results."""
        rows = Formats.of(problem, self.routes)
        forward = (
            *(leg.scaled(rows.token.bytes) for leg in self.there),
            *(leg.scaled(rows.plain.bytes) for leg in self.back),
        )
        if problem.mode == "forward":
            return forward
        return (
            *forward,
            *(leg.scaled(rows.plain.bytes) for leg in self.there),
            *(leg.scaled(rows.gradient.bytes) for leg in self.back),
        )


# What copies a row, each time reading and writing it: where it leaves it is gathered and packed, where it comes home
# unpacked and added up; in between it is unpacked, put in expert order, back, and packed.
ENDS, ARRIVED, MULTIPLIED = 4, 2, 2


def alltoall(demand: RoutingDistribution) -> Flow:
    """A row for every route, straight to its rank; with a capacity as many rows to each as its experts may take."""
    layout, padded = demand.layout, demand.padded
    if padded is None:
        return _direct(demand, demand.routes, routes=1)
    there = equal(layout, padded)
    buffer, computed = _alike(layout, layout.ranks * padded), demand.routes.of(demand.everyone)
    return Flow(
        there=(there,),
        back=(there.mirrored,),
        routes=1,
        sent=buffer,
        received=buffer,
        computed=computed,
        copied=buffer.scaled(ENDS + ARRIVED) + computed.scaled(MULTIPLIED),
    )


def alltoall_dedup(demand: RoutingDistribution) -> Flow:
    """A row for every rank that a token has a route to; what its experts there return is added before it comes back."""
    return _direct(demand, demand.pairs, routes=demand.problem.K)


def _direct(demand: RoutingDistribution, rows: PerToken, *, routes: int) -> Flow:
    """Counts to everyone, then rows to everyone in uneven splits."""
    layout, tokens = demand.layout, demand.tokens
    peers_R = np.bincount(layout.node_R)[layout.node_R]
    node, whole = rows.within(layout.node_R), rows.whole
    there = all_to_all(
        layout,
        out={"self": rows.of(tokens), "node": node.less(rows).of(tokens), "across": whole.less(node).of(tokens)},
        into={
            "self": rows.of(tokens),
            "node": rows.of(tokens * (peers_R - 1)),
            "across": rows.of(tokens * (layout.ranks - peers_R)),
        },
    )
    sent, received, computed = whole.of(tokens), rows.of(demand.everyone), demand.routes.of(demand.everyone)
    return Flow(
        counts=(equal(layout, COUNT_BYTES * demand.chunks),),
        there=(there,),
        back=(there.mirrored,),
        routes=routes,
        sent=sent,
        received=received,
        computed=computed,
        copied=sent.scaled(ENDS) + received.scaled(ARRIVED) + computed.scaled(MULTIPLIED),
    )


def hierarchical(demand: RoutingDistribution) -> Flow:
    """Rows as in `alltoall` in two hops: to the rank of one's node in the place of the destination, then to its node.

    2DH of Tutel (Hwang et al. 2022, arXiv 2206.03382): before each hop rows are regrouped.
    """
    layout, padded = demand.layout, demand.padded
    computed = demand.routes.of(demand.everyone)
    if padded is None:
        first, second = _two_hops(demand)
        passed = demand.routes.within(layout.local_R).of(demand.tokens * layout.local)
        sent, received = demand.routes.whole.of(demand.tokens), computed
    else:
        first, second = two_hops(layout, padded)
        sent = passed = received = _alike(layout, layout.ranks * padded)
    return Flow(
        counts=two_hops(layout, COUNT_BYTES * demand.chunks) if padded is None else (),
        there=(first, second),
        back=(second.mirrored, first.mirrored),
        routes=1,
        sent=sent + passed,
        received=received,
        computed=computed,
        copied=sent.scaled(ENDS + 2) + passed.scaled(2) + received.scaled(ARRIVED) + computed.scaled(MULTIPLIED),
    )


def _two_hops(demand: RoutingDistribution) -> tuple[Transfer, Transfer]:
    """Inside the node, then across, in uneven splits."""
    layout, tokens, rank = demand.layout, demand.tokens, demand.routes
    place = rank.within(layout.local_R)
    first = inside(
        layout,
        out={"self": place.of(tokens), "node": rank.whole.less(place).of(tokens)},
        into={"self": place.of(tokens), "node": place.of(tokens * (layout.local - 1))},
    )
    passed = tokens * layout.local
    second = between(
        layout,
        out={"self": rank.of(passed), "across": place.less(rank).of(passed)},
        into={"self": rank.of(passed), "across": rank.of(passed * (layout.nodes - 1))},
    )
    return first, second


def allgather(demand: RoutingDistribution) -> Flow:
    """Every token to every rank, which multiplies those of its experts; partial sums come back and are added."""
    layout, tokens = demand.layout, demand.problem.tokens_per_rank / demand.chunks
    mine, everyone = _alike(layout, tokens), _alike(layout, layout.ranks * tokens)
    computed = demand.routes.of(demand.everyone)
    return Flow(
        counts=(ring(layout, COUNT_BYTES * demand.chunks),),
        there=(ring(layout, tokens),),
        back=(equal(layout, tokens),),
        routes=demand.problem.K,
        sent=everyone,
        received=everyone,
        computed=computed,
        copied=(mine + everyone).scaled(ENDS / 2) + everyone.scaled(ARRIVED) + computed.scaled(MULTIPLIED),
    )


def _alike(layout: Layout, amount: float) -> RowDistribution:
    return RowDistribution.fixed(np.full(layout.ranks, float(amount)))


FLOWS: Mapping[str, Callable[[RoutingDistribution], Flow]] = {
    "alltoall": alltoall,
    "alltoall_dedup": alltoall_dedup,
    "hierarchical": hierarchical,
    "allgather": allgather,
}
"""By the name of the dispatcher."""


def unsupported(dispatcher: str, layout: Layout) -> str | None:
    """None, or why a dispatcher cannot take this layout."""
    if dispatcher == "hierarchical" and not layout.even:
        return f"needs as many ranks on every node, {layout.ranks} are not a multiple of {layout.local}"
    return None
