"""Refusal of second derivatives in words, for autograd functions whose backward is not differentiable itself.

`torch.autograd.function.once_differentiable` looks at the gradient that comes in alone: where it is constant, as that
of a sum, a gradient that depends on the weights would be taken for a constant, and a penalty on it would be ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import torch
from torch import Tensor

Backward = Callable[..., Any]

TWICE: Final = (
    "the kernels of moebench have no second derivative: differentiate twice in float64, outside of torch.compile"
)


def differentiable_once(backward: Backward) -> Backward:
    """Let a backward run as one that autograd does not see into; to differentiate its results raises RuntimeError."""

    @wraps(backward)
    def once(ctx: Any, *gradients: Tensor) -> Any:
        with torch.no_grad():
            found = backward(ctx, *gradients)
        if not torch.is_grad_enabled():  # it is with create_graph=True
            return found
        if isinstance(found, Tensor):
            return _refusing(found)
        return tuple(_refusing(one) if isinstance(one, Tensor) else one for one in found)

    return once


def _refusing(gradient: Tensor) -> Tensor:
    result: Tensor = _Refusal.apply(gradient.detach().requires_grad_())  # type: ignore[no-untyped-call]
    return result


class _Refusal(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(_ctx: Any, *_: Any) -> Any:
        raise RuntimeError(TWICE)
