"""The CUDA router chooses as the torch router does, with the same gates and gradients."""

from __future__ import annotations

import pytest
import torch
from cuda_on_cpu import Machine
from torch import Tensor

from moebench.kernels.problem.draw_routes import routed
from moebench.kernels.problem.router import Router, RouterInputs
from moebench.kernels.triton.topk_router import topk_softmax

pytestmark = pytest.mark.gpu

SHAPES = [(0, 4, 2), (1, 1, 1), (9, 3, 3), (5, 60, 4), (7, 129, 8), (3, 129, 129), (2, 8192, 64)]


def logits(T: int, E: int, *, levels: int | None = None) -> Tensor:
    """Return random logits; with few ``levels`` many are equal, some of them 0.0 beside -0.0."""
    logits_TE = torch.randn(T, E, generator=torch.Generator().manual_seed(T + E)) * 4
    return logits_TE if levels is None else (logits_TE * levels / 8).round() / levels


@pytest.mark.parametrize(("T", "E", "K"), SHAPES)
@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("renormalise", [False, True])
def test_same_experts_and_gates(
    machine: Machine, T: int, E: int, K: int, levels: int | None, renormalise: bool
) -> None:
    logits_TE = logits(T, E, levels=levels)
    with machine(T) as device:
        routing = topk_softmax(logits_TE.to(device), K, renormalise=renormalise)
    expected = routed("softmax_topk_renorm" if renormalise else "softmax_topk", logits_TE, K)
    assert torch.equal(routing.ids_TK.cpu(), expected.ids_TK)
    torch.testing.assert_close(routing.gates_TK.cpu(), expected.gates_TK, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("renormalise", [False, True])
def test_same_gradients(machine: Machine, dtype: torch.dtype, renormalise: bool) -> None:
    logits_TE, dgates_TK = logits(6, 11).to(dtype), logits(6, 4)
    with machine(1) as device:
        mine_TE = logits_TE.to(device).requires_grad_()
        routing = topk_softmax(mine_TE, 4, renormalise=renormalise)
        (found_TE,) = torch.autograd.grad(routing.gates_TK, mine_TE, dgates_TK.to(device))
    theirs_TE = logits_TE.clone().requires_grad_()
    expected = routed("softmax_topk_renorm" if renormalise else "softmax_topk", theirs_TE, 4)
    (expected_TE,) = torch.autograd.grad(expected.gates_TK, theirs_TE, dgates_TK)
    assert found_TE.dtype == dtype
    torch.testing.assert_close(found_TE.cpu(), expected_TE, rtol=2e-2 if dtype != torch.float32 else 1e-4, atol=1e-5)


def test_infinities_and_nan_choose_valid_experts_each_once_as_torch_does(machine: Machine) -> None:
    rows = [
        [1.0, float("nan"), 3.0, float("nan"), 2.0],
        [float("nan")] * 5,
        [-float("inf")] * 5,
        [0.0, -float("inf"), float("inf"), 1.0, float("inf")],
        [-0.0, 0.0, -0.0, 0.0, -1.0],
        [-float("nan"), 1.0, -float("inf"), 0.0, 0.5],
    ]
    logits_TE = torch.tensor(rows)
    with machine(2) as device:
        routing = topk_softmax(logits_TE.to(device), 4, renormalise=True)
    expected = Router.parse("softmax_topk_renorm").route(RouterInputs(logits_TE=logits_TE), 4)
    assert torch.equal(routing.ids_TK.cpu(), expected[0])
    torch.testing.assert_close(routing.gates_TK.cpu(), expected[1], equal_nan=True)


def test_switch_is_the_top_one(machine: Machine) -> None:
    logits_TE = logits(8, 16)
    with machine(3) as device:
        routing = topk_softmax(logits_TE.to(device), 1, renormalise=False)
    assert torch.equal(routing.ids_TK.cpu(), routed("switch", logits_TE, 1).ids_TK)
