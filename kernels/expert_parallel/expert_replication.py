"""Shadows: copies of the most popular experts on every rank, so that their tokens need not travel (FasterMoE).

He et al. 2022, section 4.1. Which experts are popular is told anew at every call, from the routes of all ranks.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..problem.routing import Routing
from ..problem.tensors import Weights
from .comm_stream import CommStream
from .send_plan import Owners
from .transport import Transport


def most_popular(counts_RE: Tensor, count: int) -> Tensor:
    """The ``count`` experts with most routes of all ranks together, int64; of equal ones the first."""
    return torch.argsort(counts_RE.sum(0), descending=True, stable=True)[:count]


def counts_of_all(carrier: Transport, lane: CommStream, routing: Routing) -> Tensor:
    """Routes of each rank to each expert, int64 (R, E)."""
    ranks = carrier.topology.ranks
    counts_RE = routing.counts_E().expand(ranks, -1).contiguous()
    ones = [1] * ranks
    received = lane.submit(lambda: carrier.exchange(counts_RE.view(torch.uint8), ones, ones)).wait()
    return received.view(torch.int64)


def shadows(carrier: Transport, lane: CommStream, owners: Owners, chosen_n: Tensor, weights: Weights) -> Weights:
    """The weights of the chosen experts from the ranks that hold them; their gradients go back there, added up."""
    experts = chosen_n.tolist()

    def copied(held: Tensor) -> Tensor:
        return cast(Tensor, _Shadows.apply(held, carrier, lane, owners, experts))  # type: ignore[no-untyped-call]

    return weights.map(copied)


class _Shadows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, held: Tensor, carrier: Transport, lane: CommStream, owners: Owners, experts: list[int]
    ) -> Tensor:
        ctx.carrier, ctx.lane, ctx.owners, ctx.experts, ctx.held = carrier, lane, owners, experts, held.shape

        def job() -> Tensor:
            copies = held.new_empty(len(experts), *held.shape[1:])
            for copy, expert in zip(copies, experts, strict=True):
                owner, place = owners.home(expert)
                if owner == carrier.rank:
                    copy.copy_(held[place])
                _broadcast(carrier, owner, copy)
            return copies

        return lane.submit(job).wait()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dcopies: Tensor) -> tuple[Tensor, None, None, None, None]:
        def job() -> Tensor:
            dheld = dcopies.new_zeros(ctx.held)
            for dcopy, expert in zip(dcopies.float(), ctx.experts, strict=True):
                owner, place = ctx.owners.home(expert)
                total = _reduce(ctx.carrier, owner, dcopy.contiguous())
                if owner == ctx.carrier.rank:
                    dheld[place] = total
            return dheld

        return ctx.lane.submit(job).wait(), None, None, None, None


# Both count as if each copy went directly from rank to rank, which trees of other ranks may do in torch's place.


def _broadcast(carrier: Transport, owner: int, copy: Tensor) -> None:
    if carrier.rank == owner:
        for rank in range(carrier.topology.ranks):
            if rank != owner:
                carrier.ledger.send(rank, copy.nbytes)
    if carrier.topology.ranks > 1:
        dist.broadcast(copy.view(torch.uint8), owner)


def _reduce(carrier: Transport, owner: int, dcopy: Tensor) -> Tensor:
    if carrier.rank != owner:
        carrier.ledger.send(owner, dcopy.nbytes)
    if carrier.topology.ranks > 1:
        dist.reduce(dcopy, owner)
    return dcopy
