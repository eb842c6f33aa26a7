"""Layout of ranks: those that share a node, and those that share the experts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...kernels.problem.shard import split_evenly

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """``groups`` expert-parallel groups of ``ranks`` consecutive ranks each, on nodes of ``ranks_per_node``.

    Each group holds all experts and moves its own tokens. Groups are whole nodes, or share a node.
    """

    ranks: int
    ranks_per_node: int
    groups: int = 1

    @staticmethod
    def of(ranks: int, *, experts: int, ranks_per_node: int) -> Layout:
        """Return one group of all ranks if there are enough experts for them.

        Otherwise return as few equal groups as fill whole nodes, or share one, so that no rank is without an expert.
        """
        fitting = (size for size in range(min(ranks, experts), 0, -1) if ranks % size == 0)
        aligned = (size for size in fitting if size == ranks or not size % ranks_per_node or not ranks_per_node % size)
        size = next(aligned)
        return Layout(ranks=size, ranks_per_node=ranks_per_node, groups=ranks // size)

    @property
    def local(self) -> int:
        """Number of ranks of the group on one node; its last node may hold fewer."""
        return min(self.ranks, self.ranks_per_node)

    @property
    def nodes(self) -> int:
        """Number of nodes on which the group has ranks."""
        return -(-self.ranks // self.ranks_per_node)

    @property
    def groups_per_node(self) -> int:
        """Number of groups that share a node."""
        return max(1, min(self.groups, self.ranks_per_node // self.ranks))

    @property
    def even(self) -> bool:
        """True if the group has the same number of ranks on each of its nodes."""
        return self.ranks % self.local == 0

    @property
    def node_R(self) -> Ints:
        """The node of every rank."""
        return np.arange(self.ranks) // self.ranks_per_node

    @property
    def local_R(self) -> Ints:
        """The place of every rank on its node."""
        return np.arange(self.ranks) % self.ranks_per_node

    def owner_E(self, experts: int) -> Ints:
        """Return the rank of every expert: in order, in shares that differ by one at most, the larger first."""
        return np.repeat(np.arange(self.ranks), split_evenly(experts, self.ranks))
