"""Shadows: copies of the most popular experts on every rank, so that their tokens need not travel (FasterMoE).

He et al. 2022, section 4.1. The most popular experts are found at every call, from the routes of all ranks.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from ..problem.routing import Routing
from ..problem.tensors import Weights
from ..torch_ops.differentiable_once import differentiable_once
from .comm_stream import CommStream
from .send_plan import Owners
from .transport import Transport


def most_popular(counts_RE: Tensor, count: int) -> Tensor:
    """Return the ``count`` experts with most routes of all ranks together, int64; of equal ones the first."""
    return torch.argsort(counts_RE.sum(0), descending=True, stable=True)[:count]


def gather_counts(transport: Transport, stream: CommStream, routing: Routing) -> Tensor:
    """Gather the routes of each rank to each expert, int64 (R, E)."""
    ranks = transport.topology.ranks
    counts_RE = routing.counts_E().expand(ranks, -1).contiguous()
    ones = [1] * ranks
    received = stream.submit(lambda: transport.exchange(counts_RE.view(torch.uint8), ones, ones)).wait()
    return received.view(torch.int64)


def copy_experts(
    transport: Transport, stream: CommStream, owners: Owners, chosen_n: Tensor, weights: Weights
) -> Weights:
    """Return the chosen experts' weights from the ranks that hold them; their summed gradients go back there."""
    experts = chosen_n.tolist()

    def copied(held: Tensor) -> Tensor:
        return cast(Tensor, _CopyExperts.apply(held, transport, stream, owners, experts))  # type: ignore[no-untyped-call]

    return weights.map(copied)


class _CopyExperts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, held: Tensor, transport: Transport, stream: CommStream, owners: Owners, experts: list[int]
    ) -> Tensor:
        ctx.transport, ctx.comm_stream, ctx.owners, ctx.experts = transport, stream, owners, experts
        ctx.held = held.shape

        def job() -> Tensor:
            copies = held.new_empty(len(experts), *held.shape[1:])
            for copy, expert in zip(copies, experts, strict=True):
                owner, place = owners.home(expert)
                if owner == transport.rank:
                    copy.copy_(held[place])
                _broadcast(transport, owner, copy)
            return copies

        return stream.submit(job).wait()

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dcopies: Tensor) -> tuple[Tensor, None, None, None, None]:
        def job() -> Tensor:
            dheld = dcopies.new_zeros(ctx.held)
            for dcopy, expert in zip(dcopies.float(), ctx.experts, strict=True):
                owner, place = ctx.owners.home(expert)
                total = _reduce(ctx.transport, owner, dcopy.contiguous())
                if owner == ctx.transport.rank:
                    dheld[place] = total
            return dheld

        return ctx.comm_stream.submit(job).wait(), None, None, None, None


# Both count as if each copy went directly from rank to rank; torch may send it along a tree of ranks.


def _broadcast(transport: Transport, owner: int, copy: Tensor) -> None:
    if transport.rank == owner:
        for rank in range(transport.topology.ranks):
            if rank != owner:
                transport.traffic.send(rank, copy.nbytes)
    if transport.topology.ranks > 1:
        dist.broadcast(copy.view(torch.uint8), owner)


def _reduce(transport: Transport, owner: int, dcopy: Tensor) -> Tensor:
    if transport.rank != owner:
        transport.traffic.send(owner, dcopy.nbytes)
    if transport.topology.ranks > 1:
        dist.reduce(dcopy, owner)
    return dcopy
