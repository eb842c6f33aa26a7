"""The activation between the two products of an expert, gated or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from ..problem import Activation, Problem

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "relu": functional.relu,
}


def activate(problem: Problem, h: Tensor) -> Tensor:
    """Map (…, U) to (…, F): act(gate) * up when gated (Shazeer 2020, equation 6), else act(h)."""
    act = ACTIVATIONS[problem.activation]
    if not problem.gated:
        return act(h)
    gate, up = h.chunk(2, dim=-1)
    return act(gate) * up


def activate_(problem: Problem, h: Tensor) -> Tensor:
    """Compute `activate` in place: the result is a view of ``h``, whose contents are lost. Not differentiable."""
    if problem.gated:
        gate, up = h.chunk(2, dim=-1)
        return _act_(problem.activation, gate).mul_(up)
    return _act_(problem.activation, h)


def _act_(name: Activation, h: Tensor) -> Tensor:
    if name == "gelu":
        return cast(Tensor, torch.ops.aten.gelu_(h))  # functional.gelu has no in-place form
    return functional.silu(h, inplace=True) if name == "silu" else functional.relu(h, inplace=True)


def activate_backward(problem: Problem, h: Tensor, da: Tensor) -> Tensor:
    """Return the gradient (…, U) of `activate` at ``h`` (…, U) for an output gradient ``da`` (…, F)."""
    if not problem.gated:
        return _act_backward(problem.activation, h, da)
    gate, up = h.chunk(2, dim=-1)
    act = ACTIVATIONS[problem.activation](gate)
    return torch.cat((_act_backward(problem.activation, gate, da * up), da * act), dim=-1)


def _act_backward(name: Activation, h: Tensor, da: Tensor) -> Tensor:
    aten = torch.ops.aten
    backward: dict[Activation, Callable[[], Tensor]] = {
        "silu": lambda: aten.silu_backward(da, h),
        "gelu": lambda: aten.gelu_backward(da, h),
        "relu": lambda: aten.threshold_backward(da, h, 0),
    }
    return backward[name]()
