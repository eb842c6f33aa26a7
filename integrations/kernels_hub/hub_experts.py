"""Experts as a function of weights, tokens and routes, for layers of the kernels hub."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import torch
from torch import Tensor, nn

from ...kernels.hardware.device_names import device_name
from ...kernels.implementations import grouped, triton_scatter
from ...kernels.kernel import Layer
from ...kernels.problem import Problem
from ...kernels.problem.routing import Routing
from ...kernels.problem.tensors import Weights
from .shipped_tables import tuned_config

BUILDS: Final = 256  # prompts differ in length, and each length needs another build; a build holds no tensors
OTHERS: Final = {"has_bias": False, "is_transposed": False, "has_gate": True, "is_concatenated": True}
"""What modules of transformers say of their experts, and what it must be."""
USUAL_GATE: Final = "_default_apply_gate"
"""Name of the method that transformers gives to experts with act(gate) · up; others clamp or scale beside it."""


def run_experts(
    module: nn.Module, gate_up_EUD: Tensor, down_EDF: Tensor, x_TD: Tensor, ids_TK: Tensor, gates_TK: Tensor
) -> Tensor:
    """Return the experts' outputs for a module of transformers.

    Raises:
        ValueError: when the module says that its experts are not gated SiLU without biases.
    """
    activation = type(getattr(module, "act_fn", nn.SiLU())).__name__
    if activation not in ("SiLU", "SiLUActivation"):
        raise ValueError(f"{type(module).__name__} has the activation {activation}: MoebenchExperts computes SiLU")
    gate = getattr(type(module), "_apply_gate", None)
    if gate is not None and gate.__name__ != USUAL_GATE:
        raise ValueError(f"{type(module).__name__} has an activation of its own: MoebenchExperts computes SiLU")
    for name, wanted in OTHERS.items():
        if getattr(module, name, wanted) != wanted:
            raise ValueError(f"{type(module).__name__} has {name} = {not wanted}: MoebenchExperts needs {wanted}")
    with torch.autocast(x_TD.device.type, enabled=False):
        return apply_kernel(x_TD, ids_TK, gates_TK, gate_up_EUD.to(x_TD.dtype), down_EDF.to(x_TD.dtype))


def apply_kernel(
    x_TD: Tensor, ids_TK: Tensor, gates_TK: Tensor, gate_up_EUD: Tensor, down_EDF: Tensor, *, on_gpu: bool | None = None
) -> Tensor:
    """Return y (T, D), differentiable in everything but the ids; ``on_gpu`` asks for the kernel in Triton or not."""
    (E, _, D), F, (T, K) = gate_up_EUD.shape, down_EDF.shape[2], ids_TK.shape
    operands = (x_TD, gates_TK, gate_up_EUD, down_EDF)
    train = torch.is_grad_enabled() and any(operand.requires_grad for operand in operands)
    on_gpu = x_TD.device.type != "cpu" if on_gpu is None else on_gpu
    layer = _built(T, D, F, E, K, x_TD.dtype, train, x_TD.device, on_gpu)
    routing = Routing.of_ids(ids_TK, gates_TK.float(), experts=E)
    return layer(x_TD, routing, Weights(w_up_EUD=gate_up_EUD, w_down_EDF=down_EDF))


@lru_cache(maxsize=BUILDS)
def _built(
    T: int, D: int, F: int, E: int, K: int, dtype: torch.dtype, train: bool, device: torch.device, on_gpu: bool
) -> Layer:
    problem = Problem(T=T, D=D, F=F, E=E, K=K, gated=True, activation="silu", router="softmax_topk").replace(
        dtype=str(dtype).removeprefix("torch."), mode="train" if train else "forward"
    )
    kernel = triton_scatter.kernel if on_gpu else grouped.kernel
    if reason := kernel.supports(problem, device):
        raise ValueError(f"MoebenchExperts on {device} {reason}")
    config = tuned_config(problem, kernel.name, device_name(device))
    if config is None or config not in kernel.space(problem, device):
        config = kernel.space(problem, device)[0]
    return kernel.build_for_any_routes(problem, config, device)
