"""One call of vLLM's experts by a kernel of moebench: the problem, the routes of this rank, and the output."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor

from ...kernels.catalog import KERNELS
from ...kernels.implementations._triton import TritonKernel
from ...kernels.module.built_layers import built
from ...kernels.problem import Activation, Problem
from ...kernels.problem.routing import NO_ROUTE, Routing
from ...kernels.problem.tensors import Weights
from ...kernels.torch_ops.activations import OAI_ALPHA, OAI_LIMIT, SILU_LIMIT, SITU_GATE, SITU_UP
from ...kernels.tuned.select import choose

PLAIN: Final[dict[str, tuple[Activation, bool]]] = {
    "silu": ("silu", True),
    "gelu": ("gelu", True),
    "gelu_tanh": ("gelu_tanh", True),
    "silu_no_mul": ("silu", False),
    "gelu_no_mul": ("gelu", False),
    "gelu_tanh_no_mul": ("gelu_tanh", False),
    "relu2_no_mul": ("relu2", False),
}
"""Activations by their names in vLLM, with whether experts have gates, where no number changes them."""

WITH_NUMBERS: Final[dict[str, tuple[Activation, dict[str, float]]]] = {
    "silu": ("silu_clamp10", {"clamp_limit": SILU_LIMIT}),
    "swigluoai_uninterleave": ("swiglu_oai", {"clamp_limit": OAI_LIMIT, "alpha": OAI_ALPHA, "beta": 1.0}),
    "situ": ("situ", {"activation_situ_beta": SITU_GATE, "activation_situ_linear_beta": SITU_UP}),
}
"""Activations that have numbers, and the numbers for which moebench has them. They exist only with gates."""

NAMES: Final = frozenset({*PLAIN, *WITH_NUMBERS})


def activation_of(name: str, numbers: Any) -> tuple[Activation, bool] | None:
    """Return the activation of a layer and whether its experts have gates; None where no kernel computes it.

    ``numbers`` is vLLM's ``ApplyMoEActivationConfig``.
    """
    if name in PLAIN and (name != "silu" or numbers.clamp_limit is None):
        return PLAIN[name]
    activation, wanted = WITH_NUMBERS.get(name, (None, {}))
    if activation is None or any(getattr(numbers, word) != number for word, number in wanted.items()):
        return None
    return activation, True


def refusal(problem: Problem, device: torch.device, dispatch: str) -> str | None:
    """Return None, or why a kernel cannot serve a layer on a device.

    A kernel must not read on the host what the device has computed: an engine records its calls in CUDA graphs.
    """
    if device.type != "cpu" and not launches_only(dispatch):
        return f"{dispatch} waits for the device, which a CUDA graph cannot record: name a Triton kernel"
    try:
        choose(problem, device, dispatch)
    except ValueError as error:
        return str(error)
    return None


def launches_only(dispatch: str) -> bool:
    """Return whether a kernel only starts work on the device, as all in Triton do."""
    return isinstance(KERNELS.load(dispatch), TritonKernel)


def local_ids(ids_TK: Tensor, expert_map: Tensor | None, experts: int) -> Tensor:
    """Return the ids among this rank's experts, int32, −1 for those of others; the host does not wait.

    ``expert_map`` has the number here of every expert there is, −1 for those of other ranks.
    """
    ids_TK = ids_TK.long()
    known = experts if expert_map is None else expert_map.shape[0]
    present_TK = (ids_TK >= 0) & (ids_TK < known)
    if expert_map is not None:
        ids_TK = expert_map[ids_TK.clamp(0, known - 1)]
    return torch.where(present_TK, ids_TK, NO_ROUTE).int()


def run_experts(
    output: Tensor,
    hidden_states: Tensor,
    weights: Weights,
    topk_weights: Tensor,
    topk_ids: Tensor,
    expert_map: Tensor | None,
    *,
    activation: Activation,
    gated: bool,
    weigh: bool,
    dispatch: str,
) -> None:
    """Write the sum over each token's experts of this rank to ``output`` (T, D).

    Without ``weigh`` the gate weights are in the tokens already. The kernel allocates its own memory, and the result is
    copied: no kernel of moebench takes a buffer to write to.

    Raises:
        ValueError: when no configuration of the kernel runs the problem.
    """
    E, F = weights.w_up_EUD.shape[0], weights.w_down_EDF.shape[2]
    (T, D), K, x = hidden_states.shape, topk_ids.shape[1], hidden_states
    bias = weights.b_up_EU is not None
    problem = layer_problem(D=D, F=F, E=E, activation=activation, gated=gated, bias=bias)
    layer = built(problem, T, K, None, "forward", x.dtype, x.device, dispatch, False)
    gates_TK = topk_weights.float() if weigh else torch.ones_like(topk_weights, dtype=torch.float32)
    output.copy_(layer(x, Routing(ids_TK=local_ids(topk_ids, expert_map, E), gates_TK=gates_TK, experts=E), weights))


@lru_cache
def layer_problem(*, D: int, F: int, E: int, activation: Activation, gated: bool, bias: bool) -> Problem:
    """Return the problem of a layer on one rank, without what each call brings."""
    return Problem(T=0, D=D, F=F, E=E, K=1, activation=activation, gated=gated, bias=bias, router="softmax_topk")
