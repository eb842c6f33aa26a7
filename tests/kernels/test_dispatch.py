"""Dispatch and combine against their definitions."""

from __future__ import annotations

import torch
from torch import Tensor

from moebench.kernels.dispatch import Places, combine, dispatch
from moebench.kernels.routing import NO_ROUTE, Routing

IDS_TK = torch.tensor([[1, 0], [NO_ROUTE, 1], [NO_ROUTE, NO_ROUTE]], dtype=torch.int32)
ROUTING = Routing(ids_TK=IDS_TK, gates_TK=torch.tensor([[0.5, 2.0], [9.0, 3.0], [9.0, 9.0]]), experts=2)
PLACES = Places.of(ROUTING, route_n=torch.tensor([1, 0, 3]), row_n=torch.tensor([0, 2, 3]), rows=5)


def test_places_know_the_row_of_a_route_and_the_token_of_a_row() -> None:
    assert PLACES.slot_TK.tolist() == [[2, 0], [NO_ROUTE, 3], [NO_ROUTE, NO_ROUTE]]
    assert PLACES.token_M.tolist() == [0, 3, 0, 1, 3]


def test_dispatch_copies_tokens_and_leaves_padding_zero() -> None:
    x_TD = torch.tensor([[1.0, 2.0], [3.0, 4.0], [torch.inf, torch.nan]], requires_grad=True)
    rows_MD = dispatch(x_TD, PLACES)
    assert rows_MD.tolist() == [[1, 2], [0, 0], [1, 2], [3, 4], [0, 0]]
    (dx_TD,) = torch.autograd.grad(rows_MD, x_TD, torch.arange(10.0).view(5, 2))
    assert dx_TD.tolist() == [[4, 6], [6, 7], [0, 0]]


def test_combine_weighs_and_adds_and_never_reads_padding() -> None:
    rows_MD = torch.full((5, 2), torch.nan)
    rows_MD[PLACES.slot_TK[PLACES.slot_TK >= 0]] = torch.tensor([[4.0, 6.0], [1.0, 1.0], [2.0, 0.0]])
    gates_TK = ROUTING.gates_TK.clone().requires_grad_()
    y_TD = combine(rows_MD.requires_grad_(), gates_TK, PLACES)
    assert y_TD.tolist() == [[4, 5], [6, 0], [0, 0]]
    dy_TD = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    drows_MD, dgates_TK = torch.autograd.grad(y_TD, [rows_MD, gates_TK], dy_TD)
    assert drows_MD.tolist() == [[2, 4], [0, 0], [0.5, 1], [9, 12], [0, 0]]
    assert dgates_TK.tolist() == [[16, 3], [0, 6], [0, 0]]


def test_both_have_gradients_where_nothing_is_routed() -> None:
    """A rank without routes must still take part in the backward of the others."""

    def empty(*shape: int) -> Tensor:
        return torch.zeros(shape, requires_grad=True)

    routing = Routing(ids_TK=torch.full((3, 2), NO_ROUTE, dtype=torch.int32), gates_TK=torch.ones(3, 2), experts=2)
    none = torch.empty(0, dtype=torch.int64)
    places = Places.of(routing, route_n=none, row_n=none, rows=0)
    x_TD, gates_TK = empty(3, 4), empty(3, 2)
    y_TD = combine(dispatch(x_TD, places), gates_TK, places)
    gradients = torch.autograd.grad(y_TD, [x_TD, gates_TK], torch.ones(3, 4))
    assert not any(bool(gradient.any()) for gradient in gradients)
