"""Traffic of each dispatcher: the collectives of a call in order, and the rows that a rank packs and multiplies."""

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

    ``counts``, in bytes, go before the first chunk, once for all chunks. A dispatched row carries ``routes`` ids and
    gates. Of the rows of every rank, ``sent`` and ``received`` are held in buffers, ``computed`` go through the
    experts, and ``copied`` are read and written once on the way.
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
        """Return the collectives that move rows, in bytes. Gradients go out like tokens and back like results."""
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


# Copies of a row, each of which reads and writes it: on its own rank it is gathered and packed, and at the end unpacked
# and added up; on the rank of the expert it is unpacked, put in expert order, put back, and packed.
ENDS, ARRIVED, MULTIPLIED = 4, 2, 2


def alltoall(distribution: RoutingDistribution) -> Flow:
    """Send a row for every route straight to its rank; with a capacity, as many rows as the experts there may take."""
    layout, padded = distribution.layout, distribution.padded
    if padded is None:
        return _direct(distribution, distribution.routes, routes=1)
    there = equal(layout, padded)
    buffer, computed = _alike(layout, layout.ranks * padded), distribution.routes.of(distribution.everyone)
    return Flow(
        there=(there,),
        back=(there.mirrored,),
        routes=1,
        sent=buffer,
        received=buffer,
        computed=computed,
        copied=buffer.scaled(ENDS + ARRIVED) + computed.scaled(MULTIPLIED),
    )


def alltoall_dedup(distribution: RoutingDistribution) -> Flow:
    """Send a row to every rank that a token has a route to; results of its experts there are added before return."""
    return _direct(distribution, distribution.pairs, routes=distribution.problem.K)


def _direct(distribution: RoutingDistribution, rows: PerToken, *, routes: int) -> Flow:
    """Send counts to all ranks, then rows to all ranks in uneven splits."""
    layout, tokens = distribution.layout, distribution.tokens
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
    sent, received, computed = (
        whole.of(tokens),
        rows.of(distribution.everyone),
        distribution.routes.of(distribution.everyone),
    )
    return Flow(
        counts=(equal(layout, COUNT_BYTES * distribution.chunks),),
        there=(there,),
        back=(there.mirrored,),
        routes=routes,
        sent=sent,
        received=received,
        computed=computed,
        copied=sent.scaled(ENDS) + received.scaled(ARRIVED) + computed.scaled(MULTIPLIED),
    )


def hierarchical(distribution: RoutingDistribution) -> Flow:
    """Send rows as `alltoall` in two hops: to the rank of the same node in the place of the destination, then across.

    2DH of Tutel (Hwang et al. 2022, arXiv 2206.03382): before each hop rows are regrouped.
    """
    layout, padded = distribution.layout, distribution.padded
    computed = distribution.routes.of(distribution.everyone)
    if padded is None:
        first, second = _two_hops(distribution)
        passed = distribution.routes.within(layout.local_R).of(distribution.tokens * layout.local)
        sent, received = distribution.routes.whole.of(distribution.tokens), computed
    else:
        first, second = two_hops(layout, padded)
        sent = passed = received = _alike(layout, layout.ranks * padded)
    return Flow(
        counts=two_hops(layout, COUNT_BYTES * distribution.chunks) if padded is None else (),
        there=(first, second),
        back=(second.mirrored, first.mirrored),
        routes=1,
        sent=sent + passed,
        received=received,
        computed=computed,
        copied=sent.scaled(ENDS + 2) + passed.scaled(2) + received.scaled(ARRIVED) + computed.scaled(MULTIPLIED),
    )


def _two_hops(distribution: RoutingDistribution) -> tuple[Transfer, Transfer]:
    """Return the hop inside the node and the hop across nodes, in uneven splits."""
    layout, tokens, rank = distribution.layout, distribution.tokens, distribution.routes
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


def allgather(distribution: RoutingDistribution) -> Flow:
    """Send every token to every rank, which computes its own experts; partial sums come back and are added."""
    layout, tokens = distribution.layout, distribution.problem.tokens_per_rank / distribution.chunks
    mine, everyone = _alike(layout, tokens), _alike(layout, layout.ranks * tokens)
    computed = distribution.routes.of(distribution.everyone)
    return Flow(
        counts=(ring(layout, COUNT_BYTES * distribution.chunks),),
        there=(ring(layout, tokens),),
        back=(equal(layout, tokens),),
        routes=distribution.problem.K,
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
"""The traffic of a forward by the name of the dispatcher."""


def unsupported(dispatcher: str, layout: Layout) -> str | None:
    """Return None, or the reason why a dispatcher cannot take this layout."""
    if dispatcher == "hierarchical" and not layout.even:
        return f"needs as many ranks on every node, {layout.ranks} are not a multiple of {layout.local}"
    return None
