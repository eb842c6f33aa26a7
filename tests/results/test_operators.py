"""Operators of calls that are known: how many are started, and which of them a GPU's host would wait for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from moebench.results.operators import Operators, count_operators

X = torch.arange(6.0)
IDS = torch.tensor([0, 2])
MASK = X > 2
META = torch.empty(6, device="meta")


def counted(call: Callable[[], object]) -> Operators:
    with count_operators() as operators:
        call()
    return operators


def assign(index: Tensor, value: Tensor | float) -> None:
    X.clone()[index] = value


@pytest.mark.parametrize(
    ("call", "started"),
    [
        (lambda: X + 1, 1),
        (lambda: X.clone().add_(1).mul_(2), 3),
        (lambda: X.view(2, 3).T.flatten(), 1),
        (lambda: (X.view(2, 3), X[1:], X.expand(2, 6), X.detach(), *X.split(2), *X.unbind()), 0),
        (lambda: (torch.empty(3), torch.empty_like(X), X.new_empty(3)), 0),
        (lambda: torch.zeros(3), 1),
        (lambda: X.sort(), 1),
        (lambda: X.view(2, 3) @ X.view(3, 2), 1),
        (lambda: torch.add(X, 1, out=torch.empty(6)), 1),
        (lambda: torch.autograd.grad(torch.tanh(X.requires_grad_()).sum(), [X]), 4),
        (lambda: META * META + 1, 2),
        (lambda: None, 0),
    ],
)
def test_what_computes_or_copies_is_started_and_views_are_not(call: Callable[[], object], started: int) -> None:
    """The gradient of a sum of tanh: tanh, sum, ones to begin with, and tanh's own backward."""
    with torch.enable_grad():
        assert counted(call).started == started
    X.requires_grad_(False)


@pytest.mark.parametrize(
    "call",
    [
        lambda: X[0].item(),
        lambda: float(X[0]),
        lambda: range(int(IDS[1])),
        lambda: bool(MASK.any()),
        lambda: X.tolist(),
        lambda: X.numpy(),
        lambda: X.cpu(),
        lambda: torch.tensor([1, 2]),
        lambda: torch.as_tensor([1, 2]),
        lambda: X.new_tensor([1.0]),
        lambda: X[MASK],
        lambda: assign(MASK, 0),
        lambda: assign(MASK, torch.ones(3)),
        lambda: MASK.nonzero(),
        lambda: torch.where(MASK),
        lambda: X.masked_select(MASK),
        lambda: torch.bincount(IDS, minlength=4),
        lambda: torch.unique(IDS),
        lambda: torch.equal(X, X),
        lambda: X[:2].repeat_interleave(IDS),
    ],
)
def test_what_the_host_must_know_is_waited_for_once(call: Callable[[], object]) -> None:
    assert counted(call).waits == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: X[IDS],
        lambda: assign(IDS, 0),
        lambda: torch.where(MASK, X, 0),
        lambda: X.masked_fill(MASK, 0),
        lambda: X[:2].repeat_interleave(IDS, output_size=2),
        lambda: X.sum() / X.max(),
        lambda: torch.argsort(X, stable=True),
        lambda: functional.grouped_mm(
            torch.ones(16, 16), torch.ones(1, 16, 16), offs=torch.zeros(1, dtype=torch.int32).add(16)
        ),
    ],
)
def test_nothing_else_is_waited_for(call: Callable[[], object]) -> None:
    assert counted(call).waits == 0


def test_the_backward_of_a_function_in_python_is_counted() -> None:
    class Waits(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: object, dx: Tensor) -> Tensor:  # type: ignore[override]  # torch declares any arguments
            return dx * dx.tolist()[0]

    x = X.clone().requires_grad_()
    alone = counted(lambda: Waits.apply(x))  # type: ignore[no-untyped-call]
    both = counted(lambda: Waits.apply(x).sum().backward())  # type: ignore[no-untyped-call]
    assert (alone.waits, both.waits) == (0, 1)


def test_counting_ends_with_the_block() -> None:
    with count_operators() as operators:
        X.tolist()
    X.tolist()
    X.add(1)
    assert operators == Operators(started=0, waits=1)
    with pytest.raises(ZeroDivisionError), count_operators():
        _ = 1 / 0
    assert counted(lambda: X + 1) == Operators(started=1, waits=0)
