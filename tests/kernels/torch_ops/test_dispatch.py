"""Dispatch and combine equal their definitions, and each is the backward of the other."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moebench.kernels.problem.routing import NO_ROUTE, Routing
from moebench.kernels.torch_ops.dispatch import Places, combine, dispatch

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
    """A rank without routes must still take part in the backward of other ranks."""

    def empty(*shape: int) -> Tensor:
        return torch.zeros(shape, requires_grad=True)

    routing = Routing(ids_TK=torch.full((3, 2), NO_ROUTE, dtype=torch.int32), gates_TK=torch.ones(3, 2), experts=2)
    none = torch.empty(0, dtype=torch.int64)
    places = Places.of(routing, route_n=none, row_n=none, rows=0)
    x_TD, gates_TK = empty(3, 4), empty(3, 2)
    y_TD = combine(dispatch(x_TD, places), gates_TK, places)
    gradients = torch.autograd.grad(y_TD, [x_TD, gates_TK], torch.ones(3, 4))
    assert not any(bool(gradient.any()) for gradient in gradients)


@st.composite
def placed(draw: st.DrawFn) -> tuple[Places, int, int]:
    """Draw any routes in any order among any padding, with the number of tokens and of rows."""
    T, K, padding = draw(st.integers(0, 6)), draw(st.integers(1, 4)), draw(st.integers(0, 3))
    kept = draw(st.lists(st.booleans(), min_size=T * K, max_size=T * K))
    routes = [route for route, keep in enumerate(kept) if keep]
    rows = len(routes) + padding
    slots = draw(st.permutations(range(rows)))[: len(routes)]
    ids_TK = torch.zeros(T, K, dtype=torch.int32)
    routing = Routing(ids_TK=ids_TK, gates_TK=torch.ones(T, K), experts=1)
    route_n, row_n = torch.tensor(routes, dtype=torch.int64), torch.tensor(slots, dtype=torch.int64)
    return Places.of(routing, route_n=route_n, row_n=row_n, rows=rows), T, rows


def whole_numbers(*shape: int, seed: int) -> Tensor:
    """Draw random numbers whose sums and products are exact."""
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(seed)).float()


@given(case=placed())
def test_slots_and_tokens_are_each_others_inverse(case: tuple[Places, int, int]) -> None:
    places, T, rows = case
    found = {slot: t for t, slots in enumerate(places.slot_TK.tolist()) for slot in slots if slot != NO_ROUTE}
    assert [found.get(row, T) for row in range(rows)] == places.token_M.tolist()


@given(case=placed(), seed=st.integers(0, 99))
def test_one_is_the_backward_of_the_other(case: tuple[Places, int, int], seed: int) -> None:
    """With gate weights of 1 the gradient of one is the other, for any routes."""
    places, T, rows = case
    x_TD, y_MD = whole_numbers(T, 3, seed=seed), whole_numbers(rows, 3, seed=seed + 100)
    gates_TK = torch.ones(places.slot_TK.shape)
    (dx_TD,) = torch.autograd.grad(dispatch(x_TD.requires_grad_(), places), x_TD, y_MD)
    assert torch.equal(dx_TD, combine(y_MD, gates_TK, places))
    (dy_MD,) = torch.autograd.grad(combine(y_MD.requires_grad_(), gates_TK, places), y_MD, x_TD.detach())
    assert torch.equal(dy_MD, dispatch(x_TD.detach(), places))


@given(case=placed(), seed=st.integers(0, 99))
def test_gradients_of_combine_equal_those_of_a_plain_gather(case: tuple[Places, int, int], seed: int) -> None:
    places, T, rows = case
    y_MD = whole_numbers(rows, 3, seed=seed).requires_grad_()
    gates_TK = whole_numbers(*places.slot_TK.shape, seed=seed + 100).requires_grad_()
    dy_TD = whole_numbers(T, 3, seed=seed + 200)
    kept_TK = places.slot_TK != NO_ROUTE
    plain_TD = torch.zeros(T, 3).index_add(
        0, kept_TK.nonzero()[:, 0], y_MD[places.slot_TK[kept_TK]] * gates_TK[kept_TK][:, None]
    )
    mine_TD = combine(y_MD, gates_TK, places)
    assert torch.equal(mine_TD, plain_TD)
    mine, plain = (torch.autograd.grad(y_TD, [y_MD, gates_TK], dy_TD) for y_TD in (mine_TD, plain_TD))
    assert all(torch.equal(one, other) for one, other in zip(mine, plain, strict=True))


def test_places_do_not_depend_on_how_the_ids_lie_in_memory() -> None:
    ids_TK = IDS_TK.T.contiguous().T
    routing = Routing(ids_TK=ids_TK, gates_TK=ROUTING.gates_TK, experts=2)
    places = Places.of(routing, route_n=torch.tensor([1, 0, 3]), row_n=torch.tensor([0, 2, 3]), rows=5)
    assert torch.equal(places.slot_TK, PLACES.slot_TK)


@given(case=placed())
def test_places_by_slot_are_those_by_route(case: tuple[Places, int, int]) -> None:
    places, _, rows = case
    found = Places.at(places.slot_TK, rows=rows)
    assert torch.equal(found.token_M, places.token_M)
