"""Collectives: the amounts that every rank sends and receives, over the links of each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .expected_rows import Floats, RowDistribution
from .layout import Layout
from .machine import LinkClass


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One collective.

    ``out`` and ``into`` are the amounts of every rank by link class, in rows until `scaled` makes them bytes;
    ``messages`` counts the messages that a rank sends. In a ``ring`` a rank sends its next message only when it has
    received the last.
    """

    out: Mapping[LinkClass, RowDistribution]
    into: Mapping[LinkClass, RowDistribution]
    messages: Mapping[LinkClass, int]
    ring: bool = False

    @property
    def sends(self) -> int:
        """Messages of a rank to others."""
        return sum(self.messages.values())

    def scaled(self, factor: float) -> Transfer:
        """Return the transfer in another unit."""
        return Transfer(
            out={link: amount.scaled(factor) for link, amount in self.out.items()},
            into={link: amount.scaled(factor) for link, amount in self.into.items()},
            messages=self.messages,
            ring=self.ring,
        )

    @property
    def mirrored(self) -> Transfer:
        """The transfer in the opposite direction."""
        return Transfer(out=self.into, into=self.out, messages=self.messages, ring=self.ring)


def all_to_all(
    layout: Layout, out: Mapping[LinkClass, RowDistribution], into: Mapping[LinkClass, RowDistribution]
) -> Transfer:
    """Return the transfer with a message from every rank to every other, of given amounts."""
    messages: Mapping[LinkClass, int] = {"node": layout.local - 1, "across": layout.ranks - layout.local}
    return Transfer(out=out, into=into, messages=messages)


def equal(layout: Layout, size: float) -> Transfer:
    """Return an all-to-all with ``size`` from every rank to every rank, itself included."""
    peers_R = np.bincount(layout.node_R)[layout.node_R].astype(np.float64)
    amounts: Mapping[LinkClass, RowDistribution] = {
        "self": RowDistribution.fixed(np.full(layout.ranks, size)),
        "node": RowDistribution.fixed(size * (peers_R - 1)),
        "across": RowDistribution.fixed(size * (layout.ranks - peers_R)),
    }
    return all_to_all(layout, amounts, amounts)


def inside(
    layout: Layout, out: Mapping[LinkClass, RowDistribution], into: Mapping[LinkClass, RowDistribution]
) -> Transfer:
    """Return the transfer with a message from every rank to every other of its node."""
    return Transfer(out=out, into=into, messages={"node": layout.local - 1})


def between(
    layout: Layout, out: Mapping[LinkClass, RowDistribution], into: Mapping[LinkClass, RowDistribution]
) -> Transfer:
    """Return the transfer with a message from every rank to the rank in its place on every other node."""
    return Transfer(out=out, into=into, messages={"across": layout.nodes - 1})


def two_hops(layout: Layout, size: float) -> tuple[Transfer, Transfer]:
    """Return `equal` as two transfers: to the rank of the same node in the place of the destination, then across."""
    peers, nodes = layout.local, layout.nodes

    def alike(link: LinkClass, others: float, own: float) -> Mapping[LinkClass, RowDistribution]:
        everyone = np.full(layout.ranks, float(size))
        return {"self": RowDistribution.fixed(own * everyone), link: RowDistribution.fixed(others * everyone)}

    to_peers, to_nodes = alike("node", (peers - 1) * nodes, nodes), alike("across", (nodes - 1) * peers, peers)
    return inside(layout, to_peers, to_peers), between(layout, to_nodes, to_nodes)


def ring(layout: Layout, block: float) -> Transfer:
    """Return a ring all-gather of one block from every rank: each passes on all blocks but the last to the next."""
    next_R = np.roll(layout.node_R, -1)
    passed_R = np.full(layout.ranks, (layout.ranks - 1.0) * block)
    stays_R = next_R == layout.node_R

    def by_class(stays_R: NDArray[np.bool_]) -> Mapping[LinkClass, RowDistribution]:
        return {
            "self": RowDistribution.fixed(np.full(layout.ranks, float(block))),
            "node": RowDistribution.fixed(np.where(stays_R, passed_R, 0.0)),
            "across": RowDistribution.fixed(np.where(stays_R, 0.0, passed_R)),
        }

    messages: Mapping[LinkClass, int] = {"node": layout.ranks - 1}
    return Transfer(out=by_class(stays_R), into=by_class(np.roll(stays_R, 1)), messages=messages, ring=True)


def exchange(layout: Layout, sent_RR: Floats, joined_RR: NDArray[np.bool_]) -> Transfer:
    """Return an all-to-all of ``sent_RR[s, r]`` from rank s to r, with a message wherever ``joined_RR`` is true."""
    same_RR = layout.node_R[:, None] == layout.node_R
    own_RR = np.eye(layout.ranks, dtype=bool)
    where: Mapping[LinkClass, NDArray[np.bool_]] = {"self": own_RR, "node": same_RR & ~own_RR, "across": ~same_RR}
    return Transfer(
        out={link: RowDistribution.fixed((sent_RR * chosen_RR).sum(1)) for link, chosen_RR in where.items()},
        into={link: RowDistribution.fixed((sent_RR * chosen_RR).sum(0)) for link, chosen_RR in where.items()},
        messages={link: int((joined_RR & where[link]).sum(1).max()) for link in ("node", "across")},
    )
