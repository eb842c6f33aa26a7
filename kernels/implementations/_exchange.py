"""The all-to-all between ranks: counted, and differentiable as its own mirror image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


class Exchange:
    """All-to-all among the ranks of the default process group; with one rank nothing moves and no group is needed.

    ``sent_bytes`` counts what this rank has sent to other ranks.

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
        self.ranks = ranks
        self.rank = dist.get_rank() if ranks > 1 else 0
        self.sent_bytes = 0

    def rows(self, rows_ND: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        """Send ``send[r]`` rows to each rank r, in order; return the ``receive[r]`` rows of each rank, in order.

        Backward sends the gradients back. Every rank must call it, and its backward, even with no rows.
        """
        return cast(Tensor, _Rows.apply(rows_ND, self, send, receive))  # type: ignore[no-untyped-call]

    def move(self, rows_ND: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        """`rows` without a backward."""
        if self.ranks == 1:
            return rows_ND
        self.sent_bytes += (sum(send) - send[self.rank]) * rows_ND.shape[1] * rows_ND.element_size()
        out_MD = rows_ND.new_empty(sum(receive), rows_ND.shape[1])
        # As bytes: not every backend moves every dtype.
        sent, received = rows_ND.contiguous().view(torch.uint8), out_MD.view(torch.uint8)
        dist.all_to_all_single(received, sent, list(receive), list(send))
        return out_MD


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_ND: Tensor, exchange: Exchange, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        ctx.exchange, ctx.send, ctx.receive = exchange, send, receive
        return exchange.move(rows_ND, send, receive)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, drows_MD: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.exchange.move(drows_MD, ctx.receive, ctx.send), None, None, None
