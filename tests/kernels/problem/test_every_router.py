"""Every router keeps the interface's promises: ids in range, finite gates, K distinct experts, ties to the lower."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from moebench.kernels.problem import InvalidProblem, Problem
from moebench.kernels.problem.router import ROUTERS, Router, RouterInputs

EVERY = pytest.mark.parametrize("name", ROUTERS.names())
SPECIAL = [0.0, 1e4, -1e4, math.inf, -math.inf]


def takes(name: str, E: int, K: int) -> bool:
    """Return whether a router can have K of E experts."""
    try:
        Problem(T=1, D=1, F=1, E=E, K=K, router=name)
    except InvalidProblem:
        return False
    return True


def answer(name: str, logits_TE: Tensor, K: int) -> tuple[Tensor, Tensor]:
    tokens_T = torch.arange(len(logits_TE))
    inputs = RouterInputs(logits_TE=logits_TE, token_T=tokens_T, generator=torch.Generator().manual_seed(0))
    return Router.parse(name).route(inputs, K)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, int]:
    T, E = draw(st.integers(0, 12)), draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    logits_TE = torch.randn(T, E, generator=generator) * draw(st.sampled_from([0.0, 1.0, 1e4]))
    for _ in range(draw(st.integers(0, 3)) if T else 0):
        place = draw(st.integers(0, T - 1)), draw(st.integers(0, E - 1))
        logits_TE[place] = draw(st.sampled_from(SPECIAL))
    return logits_TE, draw(st.sampled_from([1, E, draw(st.integers(1, E))]))


@EVERY
@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_ids_are_in_range_and_distinct_and_gates_finite_for_any_logits(name: str, case: tuple[Tensor, int]) -> None:
    logits_TE, K = case
    T, E = logits_TE.shape
    K = K if takes(name, E, K) else 1
    ids_TW, gates_TW = answer(name, logits_TE, K)
    router = Router.parse(name)
    assert (ids_TW.dtype, gates_TW.dtype) == (torch.int32, torch.float32)
    assert ids_TW.shape == gates_TW.shape
    assert ids_TW.shape[0] == T
    assert ((ids_TW >= -1) & (ids_TW < E + router.extra_columns)).all()
    assert gates_TW[ids_TW >= 0].isfinite().all()
    rows = [[i for i in row if i >= 0] for row in ids_TW.tolist()]
    assert all(len(set(row)) == len(row) for row in rows)
    if not router.leaves_out:
        assert all(len(row) == K for row in rows)


@EVERY
@settings(deadline=None, max_examples=30)
@given(case=cases())
def test_the_same_seed_gives_the_same_answer(name: str, case: tuple[Tensor, int]) -> None:
    logits_TE, _ = case
    first, again = answer(name, logits_TE, 1), answer(name, logits_TE, 1)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


@EVERY
def test_equal_logits_go_to_the_lower_experts(name: str) -> None:
    router = Router.parse(name)
    if router.reads_token_ids or router.leaves_out:
        pytest.skip("its choices are not of the logits alone")
    K = 3 if takes(name, 8, 3) else 1
    ids_TK, _ = answer(name, torch.zeros(5, 8), K)
    assert ids_TK.tolist() == [list(range(K))] * 5


@EVERY
def test_a_token_that_is_nan_has_ids_in_range(name: str) -> None:
    logits_TE = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    logits_TE[2] = math.nan
    ids_TW, _ = answer(name, logits_TE, 1)
    assert ((ids_TW >= -1) & (ids_TW < 4)).all()


@EVERY
def test_tokens_in_another_order_have_the_same_experts(name: str) -> None:
    router = Router.parse(name)
    if router.reads_token_ids or router.leaves_out:
        pytest.skip("its choices are not of the logits alone")
    generator = torch.Generator().manual_seed(1)
    logits_TE, order_T = torch.randn(40, 8, generator=generator), torch.randperm(40, generator=generator)
    K = 2 if takes(name, 8, 2) else 1
    ids_TK, gates_TK = answer(name, logits_TE, K)
    moved_TK, moved_gates_TK = answer(name, logits_TE[order_T], K)
    assert torch.equal(moved_TK, ids_TK[order_T])
    torch.testing.assert_close(moved_gates_TK, gates_TK[order_T])


@EVERY
def test_gradients_of_gates_are_their_slopes(name: str) -> None:
    logits_TE = torch.randn(4, 6, generator=torch.Generator().manual_seed(2)).double().requires_grad_()
    K = 2 if takes(name, 6, 2) else 1
    _, gates_TW = answer(name, logits_TE, K)
    weight_TW = torch.randn(gates_TW.shape, generator=torch.Generator().manual_seed(3))
    (slope_TE,) = torch.autograd.grad((gates_TW * weight_TW).sum(), logits_TE)
    direction_TE = torch.randn(logits_TE.shape, generator=torch.Generator().manual_seed(4)).double()
    step = 1e-3
    with torch.no_grad():
        far, near = (answer(name, logits_TE + sign * step * direction_TE, K)[1].double() for sign in (1, -1))
    measured = ((far - near) * weight_TW).sum() / (2 * step)
    torch.testing.assert_close((slope_TE * direction_TE).sum(), measured, atol=2e-3, rtol=2e-3)
