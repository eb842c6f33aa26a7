"""The activation between the two products of an expert, gated or not.

A hidden value of a gated expert is a product of two factors, one of each half: act(gate) * up (Shazeer 2020, equation
6). With s the logistic function, L = min(gate, limit) and C the up half cut off at ± limit, the factors are

    silu          gate s(gate)                      up
    gelu          gate (1 + erf(gate / √2)) / 2     up
    gelu_tanh     gate s(2 √(2/π) (gate + 0.044715 gate³)), the approximation by tanh of Hendrycks and Gimpel 2016   up
    relu          max(gate, 0)                      up
    relu2         max(gate, 0)²                     up          So et al. 2021, Primer; Nemotron without gates
    silu_clamp10  L s(L), limit 10                  C           DeepSeek-V4, GLM-5.3-Flash, Hy4
    swiglu_oai    L s(1.702 L), limit 7             C + 1       gpt-oss, MiniMax-M3
    situ          4 tanh(gate / 4) s(gate)          25 tanh(up / 25)        Kimi-K3
    identity      gate                              up          LoRA experts without gates; with them a bilinear layer

as transformers 5 and, for situ, the published code of Kimi-K3 compute them. An expert without gates applies the first
factor alone; silu_clamp10, swiglu_oai and situ exist only gated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from ..instruments.stage import stage
from ..problem import Activation, Problem

OAI_ALPHA, OAI_LIMIT, SILU_LIMIT = 1.702, 7.0, 10.0
SITU_GATE, SITU_UP = 4.0, 25.0


def _in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compute several steps on 16-bit numbers in float32 and round once, as the kernels do."""

    def wide(*tensors: Tensor) -> Tensor:
        like = tensors[0].dtype
        return function(*(t.float() if t.element_size() < torch.float32.itemsize else t for t in tensors)).to(like)

    return wide


# The factor of the gate half, and what its gradient is for one of its value.
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda h: functional.gelu(h, approximate="tanh"),
    "relu": functional.relu,
    "relu2": lambda h: functional.relu(h).square(),
    "silu_clamp10": lambda h: functional.silu(h.clamp(max=SILU_LIMIT)),
    "swiglu_oai": _in_float32(lambda h: (low := h.clamp(max=OAI_LIMIT)) * torch.sigmoid(OAI_ALPHA * low)),
    "situ": _in_float32(lambda h: SITU_GATE * torch.tanh(h / SITU_GATE) * torch.sigmoid(h)),
    "identity": lambda h: h,
}
_aten = torch.ops.aten
_GRADIENTS: dict[Activation, Callable[[Tensor, Tensor], Tensor]] = {
    "silu": _aten.silu_backward,
    "gelu": _aten.gelu_backward,
    "gelu_tanh": lambda da, h: _aten.gelu_backward(da, h, approximate="tanh"),
    "relu": lambda da, h: _aten.threshold_backward(da, h, 0),
    "relu2": lambda da, h: 2 * functional.relu(h) * da,
    "silu_clamp10": lambda da, h: _aten.silu_backward(da, h).masked_fill(h > SILU_LIMIT, 0),
    "swiglu_oai": _in_float32(lambda da, h: (da * _oai_slope(h)).masked_fill(h > OAI_LIMIT, 0)),
    "situ": _in_float32(lambda da, h: da * _situ_slope(h)),
    "identity": lambda da, _: da,
}
# The factor of the up half where it is not the half itself.
_UP_FACTORS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu_clamp10": lambda u: u.clamp(-SILU_LIMIT, SILU_LIMIT),
    "swiglu_oai": lambda u: u.clamp(-OAI_LIMIT, OAI_LIMIT) + 1,
    "situ": _in_float32(lambda u: SITU_UP * torch.tanh(u / SITU_UP)),
}
_UP_GRADIENTS: dict[Activation, Callable[[Tensor, Tensor], Tensor]] = {
    "silu_clamp10": lambda df, u: df.masked_fill(u.abs() > SILU_LIMIT, 0),
    "swiglu_oai": lambda df, u: df.masked_fill(u.abs() > OAI_LIMIT, 0),
    "situ": _in_float32(lambda df, u: df * (1 - torch.tanh(u / SITU_UP).square())),
}


def _oai_slope(h: Tensor) -> Tensor:
    s = torch.sigmoid(OAI_ALPHA * h)
    return s * (1 + OAI_ALPHA * h * (1 - s))


def _situ_slope(h: Tensor) -> Tensor:
    t, s = torch.tanh(h / SITU_GATE), torch.sigmoid(h)
    return s * (1 - t * t + SITU_GATE * t * (1 - s))


def multiplies_up(activation: Activation) -> bool:
    """Return whether the up half enters as it is: then `ACTIVATIONS` tells all that an expert does."""
    return activation not in _UP_FACTORS


def gated(activation: Activation, gate: Tensor, up: Tensor) -> Tensor:
    """Return the product of the two factors."""
    return ACTIVATIONS[activation](gate) * _up_factor(activation, up)


def activate(problem: Problem, h: Tensor) -> Tensor:
    """Map (…, U) to (…, F): the product of both factors when gated, else the first factor of ``h``."""
    with stage("activation"):
        if not problem.gated:
            return ACTIVATIONS[problem.activation](h)
        return gated(problem.activation, *h.chunk(2, dim=-1))


def activate_(problem: Problem, h: Tensor) -> Tensor:
    """Compute `activate` in place: the result is a view of ``h``, whose contents are lost. Not differentiable."""
    with stage("activation"):
        if problem.gated:
            gate, up = h.chunk(2, dim=-1)
            return _act_(problem.activation, gate).mul_(_up_factor(problem.activation, up))
        return _act_(problem.activation, h)


def _act_(name: Activation, h: Tensor) -> Tensor:
    if name == "gelu":
        return cast(Tensor, _aten.gelu_(h))  # functional.gelu has no in-place form
    if name == "gelu_tanh":
        return cast(Tensor, _aten.gelu_(h, approximate="tanh"))
    if name in {"silu", "relu"}:
        return functional.silu(h, inplace=True) if name == "silu" else functional.relu(h, inplace=True)
    return h if name == "identity" else h.copy_(ACTIVATIONS[name](h))


def _up_factor(name: Activation, up: Tensor) -> Tensor:
    return _UP_FACTORS[name](up) if name in _UP_FACTORS else up


def activate_backward(problem: Problem, h: Tensor, da: Tensor) -> Tensor:
    """Return the gradient (…, U) of `activate` at ``h`` (…, U) for an output gradient ``da`` (…, F)."""
    name = problem.activation
    if not problem.gated:
        return _GRADIENTS[name](da, h)
    gate, up = h.chunk(2, dim=-1)
    factor = ACTIVATIONS[name](gate)
    d_gate, d_up = _GRADIENTS[name](da * _up_factor(name, up), gate), da * factor
    return torch.cat((d_gate, _UP_GRADIENTS[name](d_up, up) if name in _UP_GRADIENTS else d_up), dim=-1)
