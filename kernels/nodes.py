"""Nodes and links between ranks: rows within a node take another link than rows between nodes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

Link = Literal["self", "node", "across"]
"""How far a row travels: nowhere, inside a node, or from node to node."""

LINKS: tuple[Link, ...] = get_args(Link)


@dataclass(frozen=True)
class NodeTopology:
    """``ranks`` in nodes of ``per_node`` consecutive ones; the last node may hold fewer."""

    ranks: int
    per_node: int

    @staticmethod
    def here(ranks: int) -> NodeTopology:
        """Return the topology that torchrun sets in LOCAL_WORLD_SIZE; without torchrun all ranks share this machine."""
        per_node = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
        return NodeTopology(ranks, max(1, min(per_node, ranks)))

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return -(-self.ranks // self.per_node)

    @property
    def even(self) -> bool:
        """True if all nodes hold equally many ranks."""
        return self.ranks % self.per_node == 0

    def link(self, source: int, target: int) -> Link:
        """Return the link between two ranks."""
        if source == target:
            return "self"
        return "node" if source // self.per_node == target // self.per_node else "across"
