"""Experts of Hugging Face transformers 5: their parameters and what they compute.

transformers 5 fuses the matrices of a released checkpoint when it loads one: ``gate_up_proj`` (E, 2 F, D), gate rows
first, or ``up_proj`` (E, F, D) when not gated, and ``down_proj`` (E, D, F). `tensors.Weights` has the same layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..problem import Activation
from ..problem.problem import ONLY_GATED
from ..problem.tensors import Weights
from ..torch_ops.activations import ACTIVATIONS
from ..torch_ops.activations import gated as gated_by


def read_experts(experts: nn.Module) -> tuple[Weights, Activation]:
    """Return the parameters of a transformers 5 experts module, shared with it, and its activation.

    Raises:
        ValueError: when the module has another layout, or computes something that no kernel here computes.
    """
    kind = type(experts).__name__
    for flag, usual in (("is_transposed", False), ("is_concatenated", True), ("has_post_expert_norm", False)):
        if getattr(experts, flag, usual) is not usual:
            raise ValueError(f"{kind} has {flag} = {not usual}: bring its weights into the form of tensors.Weights")
    tensors = dict(experts.named_parameters(recurse=False))
    gated = "gate_up_proj" in tensors
    up = "gate_up_proj" if gated else "up_proj"
    if not {up, "down_proj"} <= tensors.keys():
        raise ValueError(f"{kind} has no gate_up_proj and down_proj, but {', '.join(tensors) or 'nothing'}: fuse them")
    weights = Weights(
        w_up_EUD=tensors[up],
        w_down_EDF=tensors["down_proj"],
        b_up_EU=tensors.get(f"{up}_bias"),
        b_down_ED=tensors.get("down_proj_bias"),
    )
    return weights, _activation(experts, gated=gated)


def _activation(module: Any, *, gated: bool) -> Activation:
    """Find the activation by what it computes: its name does not show a clamp or a shift."""
    gate, up = torch.linspace(-20, 20, 81, device="cpu"), torch.linspace(30, -10, 81, device="cpu")
    with torch.no_grad():
        if gated and hasattr(module, "_apply_gate"):  # transformers lets a model override how the halves are joined
            found = module._apply_gate(torch.cat((gate, up))[None])[0]  # noqa: SLF001
        else:
            found = module.act_fn(gate) * up if gated else module.act_fn(gate)
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
