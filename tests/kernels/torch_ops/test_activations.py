"""Activations are their formulas, gated or not, in place or not."""

from __future__ import annotations

import math

import pytest
import torch

from moebench.kernels.problem import Activation, Problem
from moebench.kernels.torch_ops.activations import activate, activate_, activate_backward

FORMULAS = {
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "relu": lambda x: max(x, 0.0),
}


def problem(activation: Activation, *, gated: bool) -> Problem:
    return Problem(T=1, D=1, F=3, E=1, K=1, activation=activation, gated=gated)


@pytest.mark.parametrize("name", ["silu", "gelu", "relu"])
def test_activation_is_its_formula(name: Activation) -> None:
    h = torch.linspace(-4, 4, 33, dtype=torch.float64)
    expected = torch.tensor([FORMULAS[name](value) for value in h.tolist()], dtype=torch.float64)
    torch.testing.assert_close(activate(problem(name, gated=False), h), expected)


@pytest.mark.parametrize("name", ["silu", "gelu", "relu"])
def test_gated_activation_multiplies_the_second_half_by_the_activated_first(name: Activation) -> None:
    rows = [[-1.0, 0.5, 2.0, 3.0, -5.0, 7.0], [0.25, -0.5, 1.0, 1.0, 2.0, 4.0]]
    expected = [[FORMULAS[name](row[i]) * row[3 + i] for i in range(3)] for row in rows]
    result = activate(problem(name, gated=True), torch.tensor(rows, dtype=torch.float64))
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("name", ["silu", "gelu", "relu"])
@pytest.mark.parametrize("shape", [(6,), (4, 6), (0, 6), (2, 3, 6)], ids=str)
def test_in_place_activation_has_the_same_values_in_the_memory_of_its_input(
    name: Activation, gated: bool, shape: tuple[int, ...]
) -> None:
    h = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = activate(problem(name, gated=gated), h.clone())
    result = activate_(problem(name, gated=gated), h)
    assert result.shape == (*shape[:-1], 3 if gated else 6)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    assert result.untyped_storage().data_ptr() == h.untyped_storage().data_ptr()


@pytest.mark.parametrize("gated", [True, False])
def test_activation_leaves_its_input_as_it_was(gated: bool) -> None:
    h = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    before = h.clone()
    activate(problem("silu", gated=gated), h)
    assert torch.equal(h, before)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("name", ["silu", "gelu", "relu"])
@pytest.mark.parametrize("shape", [(6,), (4, 6), (0, 6), (2, 3, 6)], ids=str)
def test_backward_is_the_gradient_that_autograd_finds(name: Activation, gated: bool, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    a = activate(problem(name, gated=gated), h)
    da = torch.randn(a.shape, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad(a, h, da)
    torch.testing.assert_close(activate_backward(problem(name, gated=gated), h.detach(), da), expected)
