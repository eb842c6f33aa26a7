"""Dispatch and combine of one call, with their backward passes: tokens go to the experts' ranks, results come back.

Four functions of autograd, each the other's mirror image. Going out, a function that departs starts what another one
waits for on arrival, so that the chunks of a call travel while others are computed; in backward the one that arrived
starts, and the one that departed waits. Only a ticket passes between the two, a scalar that ties them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from ..problem.tensors import TORCH_DTYPES
from ..torch_ops.differentiable_once import differentiable_once
from .comm_stream import CommStream, Pending
from .packing import pack, unpack, unpack_words
from .send_plan import NOWHERE, SendPlan
from .transport import Splits, Transport
from .wire_format import Formats, WireRow


class RoundTrip:
    """The state of one call with tokens like ``like_TD``: its plan, its formats, and the chunks under way."""

    def __init__(
        self,
        transport: Transport,
        stream: CommStream,
        plan: SendPlan,
        splits: Sequence[Splits],
        formats: Formats,
        like_TD: Tensor,
    ) -> None:
        self.transport = transport
        self.comm_stream = stream
        self.plan = plan
        self.splits = splits
        self.formats = formats
        self.tokens, self.dtype = len(like_TD), like_TD.dtype
        self.going_out: dict[int, Pending] = {}
        self.coming_back: dict[int, Pending] = {}

    @property
    def chunks(self) -> range:
        return range(len(self.splits))

    def dispatch(self, row: WireRow, rows_TD: Tensor, words: Sequence[Tensor] = ()) -> None:
        """Start sending copies of tokens, or of their gradients, with words (M, any) for every copy."""
        for chunk, (rows, splits) in enumerate(zip(self.plan.chunks, self.splits, strict=True)):
            token_m = self.plan.token_M[rows]
            if self.tokens:
                copies_mD = rows_TD.index_select(0, token_m.clamp(min=0))  # what only fills its place is never read
            else:
                copies_mD = rows_TD.new_zeros(len(token_m), rows_TD.shape[1])
            packed = pack(row, copies_mD, [word_MW[rows] for word_MW in words])
            self.going_out[chunk] = self.comm_stream.submit(partial(self.transport.dispatch, packed, splits))

    def combine(self, row: WireRow, chunk: int, rows_MD: Tensor, words: Sequence[Tensor] = ()) -> None:
        """Start sending the rows of a chunk back."""
        packed = pack(row, rows_MD, words)
        self.coming_back[chunk] = self.comm_stream.submit(partial(self.transport.combine, packed, self.splits[chunk]))

    def finish(self, row: WireRow) -> tuple[Tensor, Tensor]:
        """Wait for all chunks. Return the sum of each token's rows (T, D) in the tokens' dtype, and the buffers.

        The sum is taken in float32, each element of it written once: no atomics, and the same bits every time.
        """
        buffers = [self.coming_back.pop(chunk).wait() for chunk in self.chunks]
        buffer_MB = buffers[0] if len(buffers) == 1 else torch.cat(buffers)
        back_M = self.plan.back_M
        order_M = torch.argsort(back_M, stable=True)[int((back_M == NOWHERE).sum()) :]
        rows_MD = unpack(row, buffer_MB, torch.promote_types(TORCH_DTYPES[row.format], self.dtype))
        if not len(order_M):
            return rows_MD.new_zeros(self.tokens, rows_MD.shape[1], dtype=self.dtype), buffer_MB
        counts_T = torch.bincount(back_M[order_M], minlength=self.tokens)
        sum_TD = functional.embedding_bag(order_M, rows_MD, torch.cumsum(counts_T, 0) - counts_T, mode="sum")
        return sum_TD.to(self.dtype), buffer_MB


def start_dispatch(call: RoundTrip, x_TD: Tensor, ids_TK: Tensor, gates_TK: Tensor) -> tuple[Tensor, ...]:
    """Start sending all tokens with their routes. Return a ticket for every chunk."""
    return cast(tuple[Tensor, ...], _StartDispatch.apply(call, x_TD, ids_TK, gates_TK))  # type: ignore[no-untyped-call]


def finish_dispatch(call: RoundTrip, chunk: int, ticket: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Wait for a chunk. Return tokens (M, D), ids int32 (M, k), gates float32 (M, k), and a ticket for the way back."""
    return cast(tuple[Tensor, Tensor, Tensor, Tensor], _FinishDispatch.apply(call, chunk, ticket))  # type: ignore[no-untyped-call]


def start_combine(call: RoundTrip, chunk: int, y_MD: Tensor, ticket: Tensor, weight: Tensor) -> Tensor:
    """Start sending the results of a chunk back. Return a ticket for `finish_combine`.

    A rank takes part in the backward of the others even if its rows depend on nothing: the tickets and any ``weight``
    see to that.
    """
    return cast(Tensor, _StartCombine.apply(call, chunk, y_MD, ticket, weight))  # type: ignore[no-untyped-call]


def finish_combine(call: RoundTrip, tickets: Sequence[Tensor]) -> Tensor:
    """Wait for all results and add them up: (T, D)."""
    return cast(Tensor, _FinishCombine.apply(call, *tickets))  # type: ignore[no-untyped-call]


class _StartDispatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: RoundTrip, x_TD: Tensor, ids_TK: Tensor, gates_TK: Tensor) -> tuple[Tensor, ...]:
        ctx.call, ctx.gates = call, gates_TK.shape
        route_Mk = call.plan.route_Mk
        ids_Mk = _by_route(ids_TK, route_Mk, NOWHERE)
        call.dispatch(call.formats.token, x_TD, (ids_Mk, _by_route(gates_TK, route_Mk, 0)))
        return tuple(x_TD.new_zeros(()) for _ in call.chunks)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *_: Tensor) -> tuple[None, Tensor, None, Tensor]:
        call: RoundTrip = ctx.call
        dx_TD, buffer_MB = call.finish(call.formats.gradient)
        dgates_Mk = unpack_words(buffer_MB, torch.float32, 0, call.plan.width)
        back_Mk = call.plan.back_Mk
        dgates_TK = dgates_Mk.new_zeros(ctx.gates)
        dgates_TK.view(-1)[back_Mk[back_Mk != NOWHERE]] = dgates_Mk[back_Mk != NOWHERE]
        return None, dx_TD, None, dgates_TK


class _FinishDispatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: RoundTrip, chunk: int, ticket: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ctx.call, ctx.chunk = call, chunk
        buffer_MB, width = call.going_out.pop(chunk).wait(), call.plan.width
        ids_Mk = unpack_words(buffer_MB, torch.int32, 0, width)
        gates_Mk = unpack_words(buffer_MB, torch.float32, width, width)
        ctx.mark_non_differentiable(ids_Mk)
        return unpack(call.formats.token, buffer_MB, call.dtype), ids_Mk, gates_Mk, ticket.new_zeros(())

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dx_MD: Tensor, _ids: None, dgates_Mk: Tensor, _ticket: Tensor) -> tuple[None, None, Tensor]:
        call: RoundTrip = ctx.call
        call.combine(call.formats.gradient, ctx.chunk, dx_MD, (dgates_Mk,))
        return None, None, dx_MD.new_zeros(())


class _StartCombine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: RoundTrip, chunk: int, y_MD: Tensor, ticket: Tensor, _weight: Tensor) -> Tensor:
        ctx.call, ctx.chunk = call, chunk
        call.combine(call.formats.plain, chunk, y_MD)
        return ticket.new_zeros(())

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dticket: Tensor) -> tuple[None, None, Tensor, Tensor, None]:
        call: RoundTrip = ctx.call
        dy_MD = unpack(call.formats.plain, call.going_out.pop(ctx.chunk).wait(), call.dtype)
        return None, None, dy_MD, dticket.new_zeros(()), None


class _FinishCombine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: RoundTrip, *_tickets: Tensor) -> Tensor:
        ctx.call = call
        y_TD, _ = call.finish(call.formats.plain)
        return y_TD

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dy_TD: Tensor) -> tuple[Tensor | None, ...]:
        call: RoundTrip = ctx.call
        call.dispatch(call.formats.plain, dy_TD)
        return None, *(dy_TD.new_zeros(()) for _ in call.chunks)


def _by_route(values_TK: Tensor, route_Mk: Tensor, nothing: int) -> Tensor:
    """Return the values of routes, ``nothing`` where there is no route."""
    if not values_TK.numel():
        return torch.full_like(route_Mk, nothing, dtype=values_TK.dtype)
    return torch.where(route_Mk == NOWHERE, nothing, values_TK.flatten()[route_Mk.clamp(min=0)])
