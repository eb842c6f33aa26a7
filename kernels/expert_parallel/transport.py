"""Transports that carry rows to other ranks and back: directly, in two hops, or by an all-gather.

The ranks first exchange how many rows go where. Then a transport dispatches rows, and combines results by sending rows
the same way back, as often as the call needs. Rows are bytes here, (M, B) uint8.
"""

from __future__ import annotations

import atexit
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.distributed as dist
from torch import Tensor

from ..nodes import NodeTopology
from ..traffic_counter import TrafficCounter
from .comm_stream import CommStream
from .send_plan import slices

RowCounts = Sequence[Sequence[int]]
"""Numbers of rows, by chunk and rank."""


@dataclass(frozen=True)
class Splits:
    """Rows of one chunk: those that this rank sends to each rank, and those that it receives from each.

    Between two hops, ``passed_GN`` counts the rows that each rank of the node sends through this one to each node.
    """

    send: list[int]
    receive: list[int]
    passed_GN: list[list[int]] | None = None

    def back(self) -> Splits:
        """Return the splits in the other direction."""
        return Splits(self.receive, self.send, self.passed_GN)


class Transport(ABC):
    """One rank's side of a collective transport; all ranks must make the same calls, even with nothing to send.

    Raises:
        RuntimeError: at construction, when the process group has another number of ranks.
    """

    def __init__(self, ranks: int) -> None:
        found = dist.get_world_size() if dist.is_initialized() else 1
        if found != ranks:
            raise RuntimeError(
                f"the problem has ranks = {ranks}, the process group has {found}: start one process for each rank and "
                "call torch.distributed.init_process_group in it"
            )
        self.topology = NodeTopology.here(ranks)
        self.rank = dist.get_rank() if ranks > 1 else 0
        self.traffic = TrafficCounter(self.topology, self.rank)

    @abstractmethod
    def exchange_counts(self, stream: CommStream, send_CR: RowCounts, device: torch.device) -> list[Splits]:
        """Tell every rank how many rows of each chunk this rank will send it."""

    @abstractmethod
    def dispatch(self, rows_MB: Tensor, splits: Splits) -> Tensor:
        """Send rows in the order of the ranks; return those received, in the order of the ranks they come from."""

    @abstractmethod
    def combine(self, rows_MB: Tensor, splits: Splits) -> Tensor:
        """Send every rank as many rows as it dispatched here; return this rank's, in the order of its `dispatch`."""

    def exchange(self, rows_MB: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        """Run an all-to-all among all ranks."""
        return self._exchange(rows_MB, send, receive, None, range(self.topology.ranks))

    def _exchange(
        self,
        rows_MB: Tensor,
        send: Sequence[int],
        receive: Sequence[int],
        group: dist.ProcessGroup | None,
        members: Sequence[int],
    ) -> Tensor:
        for target, rows in zip(members, send, strict=True):
            self.traffic.send(target, rows * rows_MB.shape[1])
        if len(members) == 1:
            return rows_MB
        received = rows_MB.new_empty(sum(receive), rows_MB.shape[1])
        dist.all_to_all_single(received, rows_MB.contiguous(), list(receive), list(send), group=group)
        return received


class DirectTransport(Transport):
    """Transport by one all-to-all."""

    def exchange_counts(self, stream: CommStream, send_CR: RowCounts, device: torch.device) -> list[Splits]:
        ones = [1] * self.topology.ranks
        counts_RC = torch.tensor(send_CR, device=device).T.contiguous()
        received = stream.submit(lambda: self.exchange(_as_bytes(counts_RC), ones, ones)).wait()
        receive_CR = received.view(torch.int64).T.tolist()
        return [Splits(list(send), receive) for send, receive in zip(send_CR, receive_CR, strict=True)]

    def dispatch(self, rows_MB: Tensor, splits: Splits) -> Tensor:
        return self.exchange(rows_MB, splits.send, splits.receive)

    def combine(self, rows_MB: Tensor, splits: Splits) -> Tensor:
        return self.exchange(rows_MB, splits.receive, splits.send)


class EqualSplitsTransport(DirectTransport):
    """Transport by one all-to-all of equal splits, so that no counts are exchanged."""

    def exchange_counts(self, stream: CommStream, send_CR: RowCounts, device: torch.device) -> list[Splits]:
        return [Splits(list(send), list(send)) for send in send_CR]


class TwoHopTransport(Transport):
    """Transport by two all-to-alls, inside the node and then across nodes (Tutel's 2DH, Hwang et al. 2022).

    The first hop goes to the rank of the own node that has the receiver's index in its node.

    A rank sends each other node one message where `DirectTransport` sends one to each of its ranks; in between rows are
    regrouped.
    """

    def __init__(self, ranks: int) -> None:
        super().__init__(ranks)
        nodes, per_node = self.topology.nodes, self.topology.per_node
        node, place = divmod(self.rank, per_node)
        self._inside = [node * per_node + other for other in range(per_node)]
        self._across = [other * per_node + place for other in range(nodes)]
        _groups(self.topology, self.rank)  # made now, so that the first call does not spend time on it
        # Blocks are ordered by the rank that they are for, (node, place); they are sent in the order (place, node).
        self._by_place = [node * per_node + place for place in range(per_node) for node in range(nodes)]
        self._by_node = [place * nodes + node for node in range(nodes) for place in range(per_node)]

    def exchange_counts(self, stream: CommStream, send_CR: RowCounts, device: torch.device) -> list[Splits]:
        nodes, per_node, chunks = self.topology.nodes, self.topology.per_node, len(send_CR)
        counts_RC = torch.tensor(send_CR, device=device).T
        leaving = _as_bytes(counts_RC[self._by_place].reshape(per_node, -1))
        passed = stream.submit(lambda: self._inside_hop(leaving, [1] * per_node, [1] * per_node)).wait()
        passed_GNC = passed.view(torch.int64).view(per_node, nodes, chunks)
        onward = _as_bytes(passed_GNC.transpose(0, 1).reshape(nodes, -1))
        received = stream.submit(lambda: self._across_hop(onward, [1] * nodes, [1] * nodes)).wait()
        receive_RC = received.view(torch.int64).view(-1, chunks)
        passed_CGN, receive_CR = passed_GNC.permute(2, 0, 1).tolist(), receive_RC.T.tolist()
        return [Splits(list(send), *rest) for send, *rest in zip(send_CR, receive_CR, passed_CGN, strict=True)]

    def dispatch(self, rows_MB: Tensor, splits: Splits) -> Tensor:
        there, onward, passed = self._hops(splits)
        rows_MB = _regroup(rows_MB, splits.send, self._by_place)
        rows_MB = self._inside_hop(rows_MB, there, [sum(passed_N) for passed_N in passed])
        rows_MB = _regroup(rows_MB, [rows for passed_N in passed for rows in passed_N], self._by_node)
        return self._across_hop(rows_MB, [sum(column) for column in zip(*passed, strict=True)], onward)

    def combine(self, rows_MB: Tensor, splits: Splits) -> Tensor:
        there, onward, passed = self._hops(splits)
        rows_MB = self._across_hop(rows_MB, onward, [sum(column) for column in zip(*passed, strict=True)])
        rows_MB = _regroup(rows_MB, [rows for column in zip(*passed, strict=True) for rows in column], self._by_place)
        rows_MB = self._inside_hop(rows_MB, [sum(passed_N) for passed_N in passed], there)
        return _regroup(rows_MB, [splits.send[rank] for rank in self._by_place], self._by_node)

    def _hops(self, splits: Splits) -> tuple[list[int], list[int], list[list[int]]]:
        """Return the rows to each rank of this node, the rows from each node, and the rows passed on in between."""
        nodes, per_node = self.topology.nodes, self.topology.per_node
        there = [sum(splits.send[place::per_node]) for place in range(per_node)]
        onward = [sum(splits.receive[node * per_node : (node + 1) * per_node]) for node in range(nodes)]
        return there, onward, splits.passed_GN or []

    def _inside_hop(self, rows_MB: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        return self._exchange(rows_MB, send, receive, _groups(self.topology, self.rank)[0], self._inside)

    def _across_hop(self, rows_MB: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        return self._exchange(rows_MB, send, receive, _groups(self.topology, self.rank)[1], self._across)


class EqualTwoHopTransport(TwoHopTransport):
    """Transport by two hops of equal splits, so that no counts are exchanged."""

    def exchange_counts(self, stream: CommStream, send_CR: RowCounts, device: torch.device) -> list[Splits]:
        nodes, per_node = self.topology.nodes, self.topology.per_node
        return [Splits(list(send), list(send), [[send[0]] * nodes] * per_node) for send in send_CR]


class AllGatherTransport(Transport):
    """Transport by a ring all-gather; partial sums come back by an all-to-all.

    Together they are the all-gather and reduce-scatter of data parallelism, with sums that are taken in float32
    whatever travels.
    """

    def exchange_counts(self, stream: CommStream, send_CR: RowCounts, device: torch.device) -> list[Splits]:
        mine_C = torch.tensor([[send[0] for send in send_CR]], device=device)
        tokens_RC = stream.submit(lambda: self._gather(_as_bytes(mine_C))).wait().view(torch.int64)
        return [Splits(list(send), tokens) for send, tokens in zip(send_CR, tokens_RC.T.tolist(), strict=True)]

    def dispatch(self, rows_MB: Tensor, splits: Splits) -> Tensor:
        most = max(splits.receive)
        padded = torch.cat((rows_MB, rows_MB.new_empty(most - len(rows_MB), rows_MB.shape[1])))
        everyone = self._gather(padded)
        if min(splits.receive) == most:
            return everyone
        return torch.cat([part[:rows] for part, rows in zip(everyone.split(most), splits.receive, strict=True)])

    def combine(self, rows_MB: Tensor, splits: Splits) -> Tensor:
        return self.exchange(rows_MB, splits.receive, splits.send)

    def _gather(self, rows_MB: Tensor) -> Tensor:
        ranks = self.topology.ranks
        self.traffic.send(self.rank, rows_MB.numel())
        if ranks == 1:
            return rows_MB
        self.traffic.send((self.rank + 1) % ranks, (ranks - 1) * rows_MB.numel(), messages=ranks - 1)
        everyone = rows_MB.new_empty(ranks * len(rows_MB), rows_MB.shape[1])
        _all_gather(everyone, rows_MB.contiguous())
        return everyone


# Its name until torch 2.12.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


def _as_bytes(counts: Tensor) -> Tensor:
    """Return rows of int64 as rows of bytes."""
    return counts.flatten().view(torch.uint8).view(len(counts), -1)


def _regroup(rows_MB: Tensor, sizes: Sequence[int], order: Sequence[int]) -> Tensor:
    """Return blocks of rows of these sizes in another order."""
    blocks = slices(sizes)
    return torch.cat([rows_MB[blocks[block]] for block in order])


def _groups(topology: NodeTopology, rank: int) -> tuple[dist.ProcessGroup | None, dist.ProcessGroup | None]:
    """Return a rank's group inside its node and its group across nodes; none where it is alone."""
    world = dist.group.WORLD
    if world is None:
        return None, None
    inside, across = _all_groups(topology, world)
    node, place = divmod(rank, topology.per_node)
    return inside[node], across[place]


@lru_cache(maxsize=8)  # torch keeps every group that was ever made
def _all_groups(
    topology: NodeTopology, world: dist.ProcessGroup
) -> tuple[list[dist.ProcessGroup], list[dist.ProcessGroup]]:
    """Make a group for each node and one for each index in the nodes. Every rank makes all, in the same order."""
    ranks = dist.get_process_group_ranks(world)
    nodes = [ranks[start : start + topology.per_node] for start in range(0, len(ranks), topology.per_node)]
    inside = [dist.new_group(members) for members in nodes]
    across = [dist.new_group(list(members)) for members in zip(*nodes, strict=True)]
    return inside, across


atexit.register(_all_groups.cache_clear)  # later, with the interpreter half gone, gloo's groups abort the process
