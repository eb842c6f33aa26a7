"""Activations are their formulas, gated or not, in place or not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from moebench.kernels.problem import Activation, Problem
from moebench.kernels.problem.problem import ONLY_GATED
from moebench.kernels.torch_ops.activations import activate, activate_, activate_backward


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


FORMULAS: dict[Activation, Callable[[float], float]] = {  # of the gate half
    "silu": lambda x: x * logistic(x),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: max(x, 0.0),
    "relu2": lambda x: max(x, 0.0) ** 2,
    "silu_clamp10": lambda x: min(x, 10.0) * logistic(min(x, 10.0)),
    "swiglu_oai": lambda x: min(x, 7.0) * logistic(1.702 * min(x, 7.0)),
    "situ": lambda x: 4 * math.tanh(x / 4) * logistic(x),
    "identity": lambda x: x,
}
UP_FORMULAS: dict[Activation, Callable[[float], float]] = {  # of the up half; of all others it is the half itself
    "silu_clamp10": lambda x: max(-10.0, min(x, 10.0)),
    "swiglu_oai": lambda x: max(-7.0, min(x, 7.0)) + 1,
    "situ": lambda x: 25 * math.tanh(x / 25),
}
FORMS = [(name, gated) for name in FORMULAS for gated in (True, False) if gated or name not in ONLY_GATED]
BEYOND = 16  # of normal values times this many, a third is beyond every limit


def problem(activation: Activation, *, gated: bool) -> Problem:
    return Problem(T=1, D=1, F=3, E=1, K=1, activation=activation, gated=gated)


def values(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return numbers on both sides of every limit."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul_(BEYOND).to(dtype)


@pytest.mark.parametrize("name", [name for name in FORMULAS if name not in ONLY_GATED])
def test_activation_is_its_formula(name: Activation) -> None:
    h = torch.linspace(-4, 4, 33, dtype=torch.float64)
    expected = torch.tensor([FORMULAS[name](value) for value in h.tolist()], dtype=torch.float64)
    torch.testing.assert_close(activate(problem(name, gated=False), h), expected)


@pytest.mark.parametrize("name", FORMULAS)
def test_gated_activation_multiplies_the_factors_of_both_halves(name: Activation) -> None:
    rows = [[-1.0, 0.5, 2.0, 3.0, -5.0, 7.0], [11.0, 7.5, 6.0, 8.0, 12.0, -11.0], [-20.0, 0.0, 9.0, -9.0, 40.0, -40.0]]
    up: Callable[[float], float] = UP_FORMULAS.get(name, float)
    expected = [[FORMULAS[name](row[i]) * up(row[3 + i]) for i in range(3)] for row in rows]
    result = activate(problem(name, gated=True), torch.tensor(rows, dtype=torch.float64))
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("name", "gated"), FORMS)
def test_in_place_activation_has_the_same_values_in_the_memory_of_its_input(name: Activation, gated: bool) -> None:
    for shape, dtype in (((6,), torch.float32), ((4, 6), torch.bfloat16), ((0, 6), torch.float32), ((2, 3, 6), None)):
        h = values(*shape, dtype=dtype or torch.float32)
        expected = activate(problem(name, gated=gated), h.clone())
        result = activate_(problem(name, gated=gated), h)
        assert result.shape == (*shape[:-1], 3 if gated else 6)
        assert result.dtype == h.dtype
        torch.testing.assert_close(result, expected, rtol=0, atol=0)
        assert result.untyped_storage().data_ptr() == h.untyped_storage().data_ptr()


@pytest.mark.parametrize(("name", "gated"), FORMS)
def test_activation_leaves_its_input_as_it_was(name: Activation, gated: bool) -> None:
    h = values(4, 6)
    before = h.clone()
    activate(problem(name, gated=gated), h)
    activate_backward(problem(name, gated=gated), h, torch.ones(4, 3 if gated else 6, dtype=h.dtype))
    assert torch.equal(h, before)


@pytest.mark.parametrize(("name", "gated"), FORMS)
def test_backward_is_the_gradient_that_autograd_finds(name: Activation, gated: bool) -> None:
    for shape in ((6,), (40, 6), (0, 6), (2, 3, 6)):
        h = values(*shape).requires_grad_()
        a = activate(problem(name, gated=gated), h)
        da = torch.randn(a.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        (expected,) = torch.autograd.grad(a, h, da)
        torch.testing.assert_close(activate_backward(problem(name, gated=gated), h.detach(), da), expected)


@pytest.mark.parametrize(("name", "gated"), FORMS)
def test_sixteen_bits_are_rounded_about_once_a_factor(name: Activation, gated: bool) -> None:
    h = values(64, 6, dtype=torch.bfloat16)
    exact = activate(problem(name, gated=gated), h.double())
    found = activate(problem(name, gated=gated), h)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=3 * 2**-8, atol=1e-5)


@pytest.mark.parametrize(("name", "gated"), FORMS)
def test_a_limit_does_not_hide_that_a_value_is_not_a_number(name: Activation, gated: bool) -> None:
    nan = torch.full((2, 6), math.nan)
    assert activate(problem(name, gated=gated), nan).isnan().all()
    assert activate_(problem(name, gated=gated), nan.clone()).isnan().all()
