"""What each dispatcher sends: the collectives of a call in order, and the rows that every rank packs and multiplies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..problem import Mode
from .amount import Amount
from .demand import Demand, PerToken
from .layout import Layout
from .transfer import Transfer, alike, all_to_all, between, equal, inside, ring
from .wire import Wire

COUNT_BYTES = 8  # counts travel as int64


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A forward: counts, in bytes, then rows ``there`` and ``back``, one collective after the other.

    A dispatched row carries ``routes`` ids and gates. Rows of every rank: ``sent`` and ``received`` stand in buffers,
    ``computed`` go through the experts, ``copied`` are read and written once on the way.
    """

    counts: tuple[Transfer, ...] = ()
    there: tuple[Transfer, ...]
    back: tuple[Transfer, ...]
    routes: int
    sent: Amount
    received: Amount
    computed: Amount
    copied: Amount

    def transfers(self, wire: Wire, mode: Mode) -> tuple[Transfer, ...]:
        """All collectives of a call in bytes; gradients travel as the rows did, out as tokens and back as results."""
        forward = (
            *self.counts,
            *(leg.scaled(wire.there(self.routes)) for leg in self.there),
            *(leg.scaled(wire.back) for leg in self.back),
        )
        if mode == "forward":
            return forward
        return (
            *forward,
            *(leg.scaled(wire.back, f"{leg.name} of gradients") for leg in self.there),
            *(leg.scaled(wire.gradient(self.routes), f"{leg.name} of gradients") for leg in self.back),
        )


def alltoall(demand: Demand) -> Flow:
    """A row for every route, straight to its rank; with a capacity as many rows to each as its experts may take."""
    layout, capacity = demand.layout, demand.problem.capacity
    if capacity is None:
        return _direct(demand, demand.routes, routes=1)
    rows = demand.slots * capacity
    there = equal("dispatch", layout, rows)
    buffer = Amount.fixed(np.full(layout.ranks, float(layout.ranks * rows)))
    return Flow(
        there=(there,),
        back=(there.mirrored("return"),),
        routes=1,
        sent=buffer,
        received=buffer,
        computed=demand.routes.of(demand.problem.T),
        copied=buffer.scaled(4),
    )


def alltoall_dedup(demand: Demand) -> Flow:
    """A row for every rank that a token has a route to; what its experts there return is added before it comes back."""
    return _direct(demand, demand.pairs, routes=demand.problem.K)


def _direct(demand: Demand, rows: PerToken, *, routes: int) -> Flow:
    """Counts to everyone, then rows to everyone in uneven splits."""
    layout, tokens = demand.layout, demand.tokens
    peers_R = np.bincount(layout.node_R)[layout.node_R]
    node = rows.over(layout.node_R).at(layout.node_R)
    whole = rows.over(np.zeros_like(layout.node_R)).at(np.zeros_like(layout.node_R))
    there = all_to_all(
        "dispatch",
        layout,
        out={"self": rows.of(tokens), "node": node.less(rows).of(tokens), "across": whole.less(node).of(tokens)},
        into={
            "self": rows.of(tokens),
            "node": rows.of(tokens * (peers_R - 1)),
            "across": rows.of(tokens * (layout.ranks - peers_R)),
        },
    )
    sent, computed = whole.of(tokens), demand.routes.of(demand.problem.T)
    return Flow(
        counts=(equal("counts", layout, 1).scaled(COUNT_BYTES),),
        there=(there,),
        back=(there.mirrored("return"),),
        routes=routes,
        sent=sent,
        received=rows.of(demand.problem.T),
        computed=computed,
        copied=(sent + computed).scaled(2),  # packed and combined; put in expert order and back
    )


def hierarchical(demand: Demand) -> Flow:
    """Rows as in `alltoall` in two hops: to the rank of one's node in the place of the destination, then to its node.

    2DH of Tutel (Hwang et al. 2022, arXiv 2206.03382, section 4.3).
    """
    layout, tokens, capacity = demand.layout, demand.tokens, demand.problem.capacity
    local, nodes = layout.local, layout.nodes
    computed = demand.routes.of(demand.problem.T)
    if capacity is None:
        rank = demand.routes
        place = rank.over(layout.local_R).at(layout.local_R)
        whole = rank.over(np.zeros_like(layout.local_R)).at(np.zeros_like(layout.local_R))
        first = inside(
            "dispatch inside",
            layout,
            out={"self": place.of(tokens), "node": whole.less(place).of(tokens)},
            into={"self": place.of(tokens), "node": place.of(tokens * (local - 1))},
        )
        second = between(
            "dispatch across",
            layout,
            out={"self": rank.of(tokens * local), "across": place.less(rank).of(tokens * local)},
            into={"self": rank.of(tokens * local), "across": rank.of(tokens * local * (nodes - 1))},
        )
        sent, passed, received = whole.of(tokens), place.of(tokens * local), computed
    else:
        rows = demand.slots * capacity
        to_peers = alike("node", layout, (local - 1) * nodes * rows, nodes * rows)
        to_nodes = alike("across", layout, (nodes - 1) * local * rows, local * rows)
        first = inside("dispatch inside", layout, to_peers, to_peers)
        second = between("dispatch across", layout, to_nodes, to_nodes)
        sent = passed = received = Amount.fixed(np.full(layout.ranks, float(layout.ranks * rows)))
    counted = alike("node", layout, (local - 1) * nodes, nodes), alike("across", layout, (nodes - 1) * local, local)
    counts = (
        inside("counts inside", layout, counted[0], counted[0]).scaled(COUNT_BYTES),
        between("counts across", layout, counted[1], counted[1]).scaled(COUNT_BYTES),
    )
    return Flow(
        counts=counts if capacity is None else (),
        there=(first, second),
        back=(second.mirrored("return across"), first.mirrored("return inside")),
        routes=1,
        sent=sent + passed,
        received=received,
        computed=computed,
        copied=(sent + passed + received).scaled(2),
    )


def allgather(demand: Demand) -> Flow:
    """Every token to every rank, which multiplies those of its experts; partial sums come back and are added."""
    layout, tokens = demand.layout, float(demand.problem.tokens_per_rank)
    everyone = Amount.fixed(np.full(layout.ranks, layout.ranks * tokens))
    computed = demand.routes.of(demand.problem.T)
    return Flow(
        there=(ring("all-gather", layout, tokens),),
        back=(equal("partial sums", layout, tokens),),
        routes=demand.problem.K,
        sent=everyone,
        received=everyone,
        computed=computed,
        copied=computed.scaled(2) + everyone,  # into expert order and back; partial sums read and added
    )


FLOWS: Mapping[str, Callable[[Demand], Flow]] = {
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
