"""Operators of calls that are known: how many are started, and which of them a GPU's host would wait for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from moebench.results.timing.operators import Operators, count_operators

X = torch.arange(6.0)
IDS = torch.tensor([0, 2])
MASK = X > 2
META = torch.empty(6, device="meta")


def counted(call: Callable[[Tensor], object]) -> Operators:
    with count_operators() as operators:
        call(X)
    return operators


def assign(x: Tensor, index: Tensor, value: Tensor | float) -> None:
    x.clone()[index] = value


@pytest.mark.parametrize(
    ("call", "started"),
    [
        (lambda x: x + 1, 1),
        (lambda x: x.clone().add_(1).mul_(2), 3),
        (lambda x: x.view(2, 3).T.flatten(), 1),
        (lambda x: (x.view(2, 3), x[1:], x.expand(2, 6), x.detach(), *x.split(2), *x.unbind()), 0),
        (lambda x: (torch.empty(3), torch.empty_like(x), x.new_empty(3)), 0),
        (lambda _: torch.zeros(3), 1),
        (lambda x: x.sort(), 1),
        (lambda x: x.view(2, 3) @ x.view(3, 2), 1),
        (lambda x: torch.add(x, 1, out=torch.empty(6)), 1),
        (lambda x: torch.tanh(x.detach().requires_grad_()).sum().backward(), 4),  # tanh, sum, ones, tanh's backward
        (lambda _: META * META + 1, 2),
        (lambda _: None, 0),
    ],
)
def test_what_computes_or_copies_is_started_and_views_are_not(call: Callable[[Tensor], object], started: int) -> None:
    assert counted(call).started == started


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x[0].item(),
        lambda x: float(x[0]),
        lambda _: range(int(IDS[1])),
        lambda _: bool(MASK.any()),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.cpu(),
        lambda _: torch.tensor([1, 2]),
        lambda _: torch.as_tensor([1, 2]),
        lambda x: x.new_tensor([1.0]),
        lambda x: x[MASK],
        lambda x: assign(x, MASK, 0),
        lambda x: assign(x, MASK, torch.ones(3)),
        lambda x: (x > 2).nonzero(),
        lambda _: torch.where(MASK),
        lambda x: x.masked_select(MASK),
        lambda _: torch.bincount(IDS, minlength=4),
        lambda _: torch.unique(IDS),
        lambda x: torch.equal(x, x),
        lambda x: x[:2].repeat_interleave(IDS),
    ],
)
def test_what_the_host_must_know_is_waited_for_once(call: Callable[[Tensor], object]) -> None:
    assert counted(call).waits == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x[IDS],
        lambda x: assign(x, IDS, 0),
        lambda x: torch.where(MASK, x, 0),
        lambda x: x.masked_fill(MASK, 0),
        lambda x: x[:2].repeat_interleave(IDS, output_size=2),
        lambda x: x.sum() / x.max(),
        lambda x: torch.argsort(x, stable=True),
        lambda _: functional.grouped_mm(
            torch.ones(16, 16), torch.ones(1, 16, 16), offs=torch.zeros(1, dtype=torch.int32).add(16)
        ),
    ],
)
def test_nothing_else_is_waited_for(call: Callable[[Tensor], object]) -> None:
    assert counted(call).waits == 0


def test_the_backward_of_a_function_in_python_is_counted() -> None:
    class Waits(torch.autograd.Function):
        @staticmethod
        def forward(_: object, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(_: object, dx: Tensor) -> Tensor:
            return torch.full_like(dx, dx.tolist()[0])

    leaf = X.clone().requires_grad_()
    alone = counted(lambda _: Waits.apply(leaf))  # type: ignore[no-untyped-call]
    both = counted(lambda _: Waits.apply(leaf).sum().backward())  # type: ignore[no-untyped-call]
    assert (alone.waits, both.waits) == (0, 1)


def test_counting_ends_with_the_block() -> None:
    with count_operators() as operators:
        X.tolist()
    X.tolist()
    X.add(1)
    assert operators == Operators(waits=1)
    with pytest.raises(ZeroDivisionError), count_operators():
        _ = 1 / 0
    assert counted(lambda x: x + 1) == Operators(Counter({"aten.add": 1}))
