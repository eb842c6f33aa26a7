"""Experts of Hugging Face transformers 5: their parameters and what they compute.

transformers 5 fuses the matrices of a released checkpoint when it loads one: ``gate_up_proj`` (E, 2 F, D), gate rows
first, or ``up_proj`` (E, F, D) when not gated, and ``down_proj`` (E, D, F). `tensors.Weights` has the same layout. Some
models have matrices (E, in, out), or gate and up in turn, and say so by a flag on the module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..problem import Activation
from ..problem.problem import ONLY_GATED
from ..problem.tensors import Weights
from ..torch_ops.activations import ACTIVATIONS
from ..torch_ops.activations import gated as gated_by

BY_HAND = (
    "give its matrices to MoELayer.from_weights in the layout of tensors.Weights, (E, 2 F, D) with gate rows first and "
    "(E, D, F), and name the activation, if that is all that it computes"
)
DEQUANTISE = (
    "convert the weights to bfloat16, multiplied by their scales, as transformers does when it loads a checkpoint with "
    "dequantize=True"
)


def read_experts(experts: nn.Module) -> tuple[Weights, Activation]:
    """Return the parameters of a transformers 5 experts module, and its activation.

    They are shared with it where it has them in our layout, and copies where it has not.

    Raises:
        ValueError: when the module has parameters or buffers that would not be read, or computes something that no
            kernel here computes.
    """
    kind = type(experts).__name__
    tensors: dict[str, Tensor] = dict(experts.named_parameters())
    held = tensors | dict(experts.named_buffers())
    gated = "gate_up_proj" in tensors
    up = "gate_up_proj" if gated else "up_proj"
    if not {up, "down_proj"} <= tensors.keys():
        raise ValueError(f"{kind} has no gate_up_proj and down_proj, but {', '.join(held) or 'nothing'}: {BY_HAND}")
    if unread := held.keys() - {up, "down_proj", f"{up}_bias", "down_proj_bias"}:
        remedy = DEQUANTISE if any("scale" in name or "zero" in name for name in unread) else BY_HAND
        raise ValueError(f"{kind} also has {', '.join(sorted(unread))}, which would not be read: {remedy}")
    if getattr(experts, "has_post_expert_norm", False):
        raise ValueError(f"{kind} has has_post_expert_norm = True, and no kernel here has a norm: keep this module")
    transposed, in_turn = getattr(experts, "is_transposed", False), not getattr(experts, "is_concatenated", True)
    w_up, w_down = tensors[up], tensors["down_proj"]
    if gated and not transposed and w_up.shape[1:] == (w_down.shape[2], 2 * w_down.shape[1]):
        raise ValueError(f"{kind} has matrices (E, in, out), and takes no ids and weights of tokens: {BY_HAND}")
    if transposed:
        w_up, w_down = w_up.detach().mT.contiguous(), w_down.detach().mT.contiguous()
    b_up = tensors.get(f"{up}_bias")
    if gated and in_turn:
        w_up, b_up = _gate_first(w_up), None if b_up is None else _gate_first(b_up)
    weights = Weights(w_up_EUD=w_up, w_down_EDF=w_down, b_up_EU=b_up, b_down_ED=tensors.get("down_proj_bias"))
    return weights, _activation(experts, gated=gated, in_turn=in_turn)


def _gate_first(rows_EU: Tensor) -> Tensor:
    """Return a copy of (E, U, …) with the even rows before the odd ones."""
    return torch.cat((rows_EU.detach()[:, ::2], rows_EU.detach()[:, 1::2]), 1)


def _activation(module: Any, *, gated: bool, in_turn: bool) -> Activation:
    """Find the activation by what it computes: its name does not show a clamp or a shift."""
    near, far = torch.linspace(-20, 20, 81, device="cpu"), torch.logspace(1, 4, 7, device="cpu")
    gate, up = torch.cat((near, far, -far, far)), torch.cat((10 - near, far, far, -far))
    halves = torch.stack((gate, up), 1).flatten() if in_turn else torch.cat((gate, up))
    try:
        with torch.no_grad():
            if gated and hasattr(module, "_apply_gate"):  # a model may override how the halves are joined
                found = module._apply_gate(halves[None])[0]  # noqa: SLF001
            else:
                found = module.act_fn(gate) * up if gated else module.act_fn(gate)
    except Exception as error:
        raise ValueError(f"{type(module).__name__} does not let its activation be seen ({error}): {BY_HAND}") from error
    for name, act in ACTIVATIONS.items():
        if name in ONLY_GATED and not gated:
            continue
        expected = gated_by(name, gate, up) if gated else act(gate)
        if torch.allclose(found, expected, rtol=1e-5, atol=1e-5):
            return name
    raise ValueError(
        f"{type(module).__name__} applies none of {', '.join(ACTIVATIONS)}"
        f"{' times the up projection' if gated else ''}: no kernel here has its activation"
    )
