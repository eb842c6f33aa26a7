"""The gather-sum equals a loop over tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from moebench.kernels.torch_ops.combine import gather_sum, row_dots


def naive(rows_MD: Tensor, slot_TK: Tensor, gates_TK: Tensor) -> Tensor:
    """Compute y_t in float64, one route at a time."""
    y_TD = torch.zeros(slot_TK.shape[0], rows_MD.shape[1], dtype=torch.float64)
    for t, slots in enumerate(slot_TK.tolist()):
        for k, slot in enumerate(slots):
            if slot >= 0:
                y_TD[t] += gates_TK[t, k].double() * rows_MD[slot].double()
    return y_TD


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Draw rows, slots and gates of any routes, also without tokens, rows or routes; rows may be used twice."""
    T, K, rows, D = draw(st.integers(0, 6)), draw(st.integers(1, 4)), draw(st.integers(0, 9)), draw(st.integers(1, 5))
    slots = draw(st.lists(st.integers(-1, rows - 1), min_size=T * K, max_size=T * K))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    rows_MD = torch.randn(rows, D, generator=generator)
    gates_TK = torch.rand(T, K, generator=generator)
    return rows_MD, torch.tensor(slots, dtype=torch.int64).view(T, K), gates_TK


@given(case=cases())
def test_it_is_the_loop(case: tuple[Tensor, Tensor, Tensor]) -> None:
    y_TD = gather_sum(*case)
    assert y_TD.dtype == torch.float32
    torch.testing.assert_close(y_TD.double(), naive(*case), rtol=1e-6, atol=1e-6)


@given(case=cases())
def test_gradients_are_those_of_the_loop(case: tuple[Tensor, Tensor, Tensor]) -> None:
    rows_MD, slot_TK, gates_TK = case
    assume(bool((slot_TK >= 0).any()))
    leaves = [rows_MD.requires_grad_(), gates_TK.requires_grad_()]
    mine = torch.autograd.grad(gather_sum(rows_MD, slot_TK, gates_TK).sum(), leaves)
    loop = torch.autograd.grad(naive(rows_MD, slot_TK, gates_TK).sum(), leaves)
    for one, other in zip(mine, loop, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_are_kept_in_float32(dtype: torch.dtype) -> None:
    """A sum of a thousand ones in half precision would stop growing; here it is rounded once, at the end."""
    rows_MD = torch.ones(1, 2, dtype=dtype)
    slot_TK = torch.zeros(1, 1000, dtype=torch.int64)
    y_TD = gather_sum(rows_MD, slot_TK, torch.ones(1, 1000))
    assert y_TD.dtype == dtype
    assert torch.equal(y_TD, torch.full((1, 2), 1000.0).to(dtype))


def test_a_row_without_a_route_is_not_read() -> None:
    rows_MD = torch.tensor([[torch.nan], [2.0], [torch.inf]])
    slot_TK = torch.tensor([[1, -1], [-1, -1]])
    assert gather_sum(rows_MD, slot_TK, torch.full((2, 2), 3.0)).tolist() == [[6.0], [0.0]]


def test_a_gate_without_a_route_is_not_read() -> None:
    slot_TK = torch.tensor([[0, -1]])
    assert gather_sum(torch.ones(1, 1), slot_TK, torch.tensor([[3.0, torch.nan]])).tolist() == [[3.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (7, 64), (3, 1 << 20)], ids=str)
def test_dots_of_rows_are_summed_in_float32(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    """Products and sums pass the largest number of float16; rows longer than what is kept at a time are whole."""
    one_MD = torch.full(shape, 300.0, dtype=dtype)
    dots_M = row_dots(one_MD, one_MD)
    assert (dots_M.dtype, dots_M.shape) == (torch.float32, shape[:1])
    torch.testing.assert_close(dots_M, one_MD.float().square().sum(1))
