"""Dispatch copies tokens to rows, combine sums rows into tokens; each is the backward of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..instruments.stage import stage
from ..problem.routing import NO_ROUTE, Routing
from .combine import gather_sum, row_dots
from .differentiable_once import differentiable_once


@dataclass(frozen=True, kw_only=True)
class Places:
    """The positions of the routes of T tokens among M rows, of which some may be padding.

    ``slot_TK`` int64 is the row of every route, −1 for none. ``token_M`` int64 is the token of every row, T for
    padding.
    """

    slot_TK: Tensor
    token_M: Tensor

    @staticmethod
    def of(routing: Routing, *, route_n: Tensor, row_n: Tensor, rows: int) -> Places:
        """Put the routes of flat index ``route_n`` (t * K + k) at the distinct rows ``row_n`` of ``rows``."""
        slot_TK = torch.full(routing.ids_TK.shape, NO_ROUTE, device=row_n.device)
        slot_TK.view(-1)[route_n] = row_n
        token_M = torch.full((rows,), routing.ids_TK.shape[0], device=row_n.device)
        token_M[row_n] = route_n // routing.chosen
        return Places(slot_TK=slot_TK, token_M=token_M)

    @staticmethod
    def at(slot_TK: Tensor, *, rows: int) -> Places:
        """Put every route at its slot of ``rows``, without waiting for a GPU."""
        tokens = slot_TK.shape[0]
        places = Places(slot_TK=slot_TK, token_M=torch.full((rows + 1,), tokens, device=slot_TK.device))
        places.token_M[places.slot_or(rows)] = torch.arange(tokens, device=slot_TK.device)[:, None].expand_as(slot_TK)
        return Places(slot_TK=slot_TK, token_M=places.token_M[:-1])

    def slot_or(self, row: int) -> Tensor:
        """Return the row of every route (T, K), for absent routes ``row``."""
        return torch.where(self.slot_TK == NO_ROUTE, row, self.slot_TK)


def dispatch(x_TD: Tensor, places: Places) -> Tensor:
    """Copy every token to its rows, (M, D), with zeros in padding. Differentiable, with the precision of `combine`."""
    with stage("dispatch"):
        return cast(Tensor, _Dispatch.apply(x_TD, places))  # type: ignore[no-untyped-call]


def combine(rows_MD: Tensor, gates_TK: Tensor, places: Places) -> Tensor:
    """Apply `gather_sum`, differentiable in rows and gates even where no token has a route."""
    with stage("combine"):
        return cast(Tensor, _Combine.apply(rows_MD, gates_TK, places))  # type: ignore[no-untyped-call]


def by_route(routing: Routing, route_n: Tensor, rows_nD: Tensor) -> Tensor:
    """Put rows at the routes of flat index ``route_n`` (t * K + k), (T, K, D), with zeros elsewhere. Differentiable."""
    tokens, chosen = routing.ids_TK.shape
    with stage("combine"):
        rows_ND = rows_nD.new_zeros(tokens * chosen, rows_nD.shape[1]).index_copy(0, route_n, rows_nD)
    return rows_ND.view(tokens, chosen, rows_nD.shape[1])


def gate_gradients(rows_MD: Tensor, dy_MD: Tensor, places: Places) -> Tensor:
    """Return <row, dy of its token> for every route, float32 (T, K), zero where there is no route."""
    slot_TK = places.slot_TK
    if not len(rows_MD):
        return torch.zeros(slot_TK.shape, device=rows_MD.device)
    dots_M = row_dots(rows_MD, dy_MD)
    return torch.where(slot_TK == NO_ROUTE, 0.0, dots_M[slot_TK.clamp(min=0)])


def with_zero_token(x_TD: Tensor) -> Tensor:
    """Append a token of zeros, (T + 1, D), which `Places.token_M` indexes for padding."""
    return torch.cat((x_TD, x_TD.new_zeros(1, x_TD.shape[1])))


class _Dispatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, places: Places) -> Tensor:
        ctx.places = places
        return with_zero_token(x_TD).index_select(0, places.token_M)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, drows_MD: Tensor) -> tuple[Tensor, None]:
        slot_TK = ctx.places.slot_TK
        return gather_sum(drows_MD, slot_TK, torch.ones(slot_TK.shape, device=slot_TK.device)), None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_MD: Tensor, gates_TK: Tensor, places: Places) -> Tensor:
        ctx.places = places
        ctx.save_for_backward(rows_MD, gates_TK)
        return gather_sum(rows_MD, places.slot_TK, gates_TK)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, dy_TD: Tensor) -> tuple[Tensor, Tensor, None]:
        rows_MD, gates_TK = ctx.saved_tensors
        drows_MD = with_zero_token(dy_TD).index_select(0, ctx.places.token_M)
        dgates_TK = gate_gradients(rows_MD, drows_MD, ctx.places)
        gates_M = gates_TK.new_zeros(len(rows_MD) + 1)
        gates_M[ctx.places.slot_or(len(rows_MD))] = gates_TK
        return drows_MD.mul_(gates_M[:-1, None]), dgates_TK, None
