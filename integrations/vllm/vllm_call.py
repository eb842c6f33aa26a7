"""One call of vLLM's experts by a kernel of moebench: the problem, the routes of this rank, and the output."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, cast

import torch
from torch import Tensor

from ...kernels.catalog import KERNELS
from ...kernels.implementations._triton import TritonKernel
from ...kernels.kernel import Layer
from ...kernels.problem import Activation, Problem
from ...kernels.problem.problem import DType
from ...kernels.problem.routing import NO_ROUTE, Routing
from ...kernels.problem.tensors import Weights
from ...kernels.torch_ops.activations import OAI_ALPHA, OAI_LIMIT, SILU_LIMIT, SITU_GATE, SITU_UP
from ...kernels.tuned.select import Choice, choose

BUILDS = 256  # prompts differ in length, and each length needs another build; a build holds no tensors

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
    layer = _built(T, D, F, E, K, x.dtype, activation, gated, bias, x.device, dispatch)
    gates_TK = topk_weights.float() if weigh else torch.ones_like(topk_weights, dtype=torch.float32)
    output.copy_(layer(x, Routing(ids_TK=local_ids(topk_ids, expert_map, E), gates_TK=gates_TK, experts=E), weights))


def layer_problem(
    *, T: int, D: int, F: int, E: int, K: int, dtype: torch.dtype, activation: Activation, gated: bool, bias: bool
) -> Problem:
    """Return the problem of a layer on one rank.

    Raises:
        ValueError: where the rank has fewer experts than a token chooses of all, which no kernel is built for.
    """
    name = cast(DType, str(dtype).removeprefix("torch."))
    return Problem(
        T=T, D=D, F=F, E=E, K=K, dtype=name, activation=activation, gated=gated, bias=bias, router="softmax_topk"
    )


@lru_cache(maxsize=BUILDS)
def _built(
    T: int,
    D: int,
    F: int,
    E: int,
    K: int,
    dtype: torch.dtype,
    activation: Activation,
    gated: bool,  # part of a key, which is made at every call of every layer
    bias: bool,
    device: torch.device,
    dispatch: str,
) -> Layer:
    """Build a layer for so many tokens, in the configuration that is chosen for about as many.

    A choice takes tens of milliseconds, and a serving engine meets new numbers of tokens all the time.
    """
    problem = layer_problem(T=T, D=D, F=F, E=E, K=K, dtype=dtype, activation=activation, gated=gated, bias=bias)
    chosen = _chosen(problem.replace(T=rounded_up(T)), device, dispatch)
    if not chosen.kernel.valid(problem, chosen.config, device):
        chosen = choose(problem, device, dispatch)
    return chosen.build(problem, device)


@lru_cache(maxsize=BUILDS)
def _chosen(problem: Problem, device: torch.device, dispatch: str) -> Choice:
    return choose(problem, device, dispatch)


def rounded_up(T: int) -> int:
    """Return the next number of tokens with two significant bits after the first: at most a quarter more."""
    step = 1 << max(0, T.bit_length() - 3)
    return -(-T // step) * step
