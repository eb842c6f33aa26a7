"""One product for every route in Triton: right in every configuration, both ways, and with absent routes."""

from __future__ import annotations

import pytest
import torch
from covering_configs import covering
from torch import Tensor

from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.implementations._triton import runs_on
from moebench.kernels.problem import Problem
from moebench.kernels.problem.block import RoutedLinear
from moebench.kernels.problem.routing import NO_ROUTE, Routing

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
KERNEL = KERNELS.load("triton_scatter")
BASE = Problem(T=40, D=48, F=16, E=3, K=2, mode="train", gated=False, activation="identity")
CONFIGS = covering([one for one in KERNEL.space(BASE, DEVICE) if KERNEL.valid(BASE, one, DEVICE)])

pytestmark = pytest.mark.skipif(runs_on(DEVICE) is not None, reason=str(runs_on(DEVICE)))


def routes(tokens: int, chosen: int, experts: int) -> Routing:
    """Return routes of which about a third is absent, one token's all, and the last expert is nobody's."""
    generator = torch.Generator().manual_seed(0)
    ids_TK = torch.randint(NO_ROUTE, max(1, experts - 1), (tokens, chosen), dtype=torch.int32, generator=generator)
    ids_TK[:1] = NO_ROUTE
    return Routing(
        ids_TK=ids_TK.to(DEVICE), gates_TK=torch.full(ids_TK.shape, torch.nan, device=DEVICE), experts=experts
    )


def route_by_route(x_TI: Tensor, routing: Routing, w_EOI: Tensor) -> Tensor:
    rows = [
        w_EOI[e] @ x_TI[t] if e != NO_ROUTE else w_EOI[0] @ x_TI[t] * 0
        for t, experts in enumerate(routing.ids_TK.tolist())
        for e in experts
    ]
    return (
        torch.stack(rows).view(*routing.ids_TK.shape, -1) if rows else w_EOI.new_zeros(0, routing.chosen, len(w_EOI[0]))
    )


def assert_right(linear: RoutedLinear, routing: Routing, *, out: int, into: int) -> None:
    tokens = len(routing.ids_TK)
    generator = torch.Generator().manual_seed(1)
    shapes = ((tokens, into), (routing.experts, out, into), (*routing.ids_TK.shape, out))
    x, w, dy = (torch.randn(shape, generator=generator).to(DEVICE) for shape in shapes)
    true_x, true_w = x.double().requires_grad_(), w.double().requires_grad_()
    expected = route_by_route(true_x, routing, true_w)
    found = linear(x.requires_grad_(), routing, w.requires_grad_())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    if tokens:
        gradients = torch.autograd.grad(found, (x, w), dy)
        for gradient, true in zip(gradients, torch.autograd.grad(expected, (true_x, true_w), dy.double()), strict=True):
            torch.testing.assert_close(gradient.double(), true, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_configuration_is_right_both_ways(config: Config) -> None:
    """Into the width of an expert, and out of it with each route a token of its own."""
    linear = KERNEL.routed_linear(BASE, config, DEVICE)
    assert_right(linear, routes(BASE.T, BASE.K, BASE.E), out=BASE.F, into=BASE.D)
    assert_right(linear, routes(BASE.T, 1, BASE.E), out=BASE.D, into=BASE.F)


@pytest.mark.parametrize(("tokens", "chosen", "experts"), [(0, 2, 3), (1, 1, 1), (5, 3, 3), (1, 4, 8)])
def test_awkward_sizes_are_right(tokens: int, chosen: int, experts: int) -> None:
    problem = BASE.replace(E=experts, K=min(chosen, experts))
    linear = KERNEL.routed_linear(problem, CONFIGS[0], DEVICE)
    assert_right(linear, routes(tokens, chosen, experts), out=problem.F, into=problem.D)


def test_what_needs_no_gradient_gets_none() -> None:
    linear = KERNEL.routed_linear(BASE, CONFIGS[0], DEVICE)
    x_TD = torch.randn(BASE.T, BASE.D, device=DEVICE)
    w_EFD = torch.randn(BASE.E, BASE.F, BASE.D, device=DEVICE, requires_grad=True)
    linear(x_TD, routes(BASE.T, BASE.K, BASE.E), w_EFD).sum().backward()
    assert x_TD.grad is None
    assert w_EFD.grad is not None
    assert float(w_EFD.grad.abs().sum()) > 0
