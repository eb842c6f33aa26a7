"""The experts of an MoE layer as a function: the forward of `MoELayer` without its parameters."""

from __future__ import annotations

from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from ..problem import Mode, Problem
from ..problem.routing import Routing
from ..problem.tensors import Weights
from ..tuned.select import AUTO
from .built_layers import built, splits
from .expert_operators import experts, experts_keeping
from .float64_experts import float64_experts
from .observed_load import ObservedLoad

LARGEST_ID: Final = {
    dtype: torch.iinfo(dtype).max
    for dtype in (torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64)
}
"""Dtypes of ids, and the largest id that each can hold."""
ALWAYS_AUTOCAST: Final = ("cpu", "cuda")
"""Kinds of devices on which autocast can be on."""
PLAIN: Final = (Tensor, nn.Parameter)
"""Types of tensors that are whole; those of others are looked at."""


def apply_experts(
    problem: Problem,
    weights: Weights,
    hidden_states: Tensor,
    top_k_index: Tensor,
    top_k_weights: Tensor,
    *,
    dispatch: str = AUTO,
    batch_invariant: bool = False,
    observed: ObservedLoad | None = None,
) -> Tensor:
    """Apply experts to tokens (T, D) or (B, S, D); the result has the same shape and dtype.

    ``problem`` describes the experts and their capacity; T, K, dtype and mode are those of the call. ``top_k_index``
    and ``top_k_weights`` are (T, K) or (B, S, K). An id outside 0 … E − 1 is no route; its weight is not read. The
    result is differentiable in the tokens, ``top_k_weights`` and the weights. `MoELayer` describes the options; with
    ``observed`` kernels are chosen for the load that it has seen.

    In a graph of torch.compile or torch.export it is one custom operator (`expert_operators`). On the device ``meta``
    the result has a shape, a dtype and gradients. In float64 no kernel runs, but plain operations that can be
    differentiated more than once.

    Raises:
        ValueError: when shapes, dtypes or devices do not go together, weights are spread over ranks, or no kernel
            supports the problem.
    """
    kind = hidden_states.device.type
    autocast = _autocast_dtype(hidden_states, kind)
    _check(problem, weights.w_down_EDF, hidden_states, top_k_index, top_k_weights, autocast)
    if not _is_whole(weights):
        weights = weights.map(_local_part)
    x_TD, ids_TK, gates_TK = hidden_states, top_k_index, top_k_weights
    if x_TD.ndim != 2:
        x_TD = x_TD.reshape(-1, problem.D)
    if ids_TK.ndim != 2:
        ids_TK, gates_TK = ids_TK.reshape(-1, ids_TK.shape[-1]), gates_TK.reshape(-1, ids_TK.shape[-1])
    if autocast is not None:
        x_TD, weights = x_TD.to(autocast), weights.map(lambda tensor: tensor.to(autocast))
    wide = torch.float64 if x_TD.dtype == torch.float64 else torch.float32
    if gates_TK.dtype != wide:
        gates_TK = gates_TK.to(wide)
    if autocast is None:
        y_TD = _run(problem, weights, x_TD, ids_TK, gates_TK, dispatch, batch_invariant, observed)
    else:
        with torch.autocast(kind, enabled=False):
            y_TD = _run(problem, weights, x_TD, ids_TK, gates_TK, dispatch, batch_invariant, observed)
        y_TD = y_TD.to(hidden_states.dtype)
    return y_TD if hidden_states.ndim == 2 else y_TD.view(hidden_states.shape)


def _run(
    problem: Problem,
    weights: Weights,
    x_TD: Tensor,
    ids_TK: Tensor,
    gates_TK: Tensor,
    dispatch: str,
    batch_invariant: bool,
    observed: ObservedLoad | None,
) -> Tensor:
    """Call the custom operator in a graph and on ``meta``, else the fastest kernel with its own autograd function."""
    training, is_float64 = _needs_gradient(x_TD, gates_TK, weights), x_TD.dtype == torch.float64
    if torch.compiler.is_compiling() or x_TD.device.type == "meta":
        arguments = (
            x_TD, ids_TK, gates_TK, weights.w_up_EUD, weights.w_down_EDF, weights.b_up_EU, weights.b_down_ED,
            problem.activation, problem.capacity_factor, problem.drop, problem.capacity_rule, dispatch, batch_invariant,
        )  # fmt: skip
        if training and not is_float64 and splits(dispatch):
            return cast(Tensor, experts_keeping(*arguments)[0])
        return cast(Tensor, experts(*arguments))
    if is_float64:
        return float64_experts(problem, x_TD, ids_TK, gates_TK, weights)
    routing = Routing.of_ids(ids_TK, gates_TK, experts=problem.E)
    mode: Mode = "train" if training else "forward"
    load = observed.of_call(routing) if observed is not None else None
    T, K = ids_TK.shape
    layer = built(problem, T, K, load, mode, x_TD.dtype, x_TD.device, dispatch, batch_invariant)
    return layer(x_TD, routing, weights)


def _needs_gradient(x_TD: Tensor, gates_TK: Tensor, weights: Weights) -> bool:
    if not torch.is_grad_enabled():
        return False
    return x_TD.requires_grad or gates_TK.requires_grad or any(one.requires_grad for one in weights.named().values())


def _check(
    problem: Problem,
    weight: Tensor,
    x: Tensor,
    ids: Tensor,
    gates: Tensor,
    autocast: torch.dtype | None,
) -> None:
    D, tokens = problem.D, x.shape[:-1]
    if not type(x) is type(ids) is type(gates) is Tensor:
        _refuse_distributed(hidden_states=x, top_k_index=ids, top_k_weights=gates)
    if x.ndim not in (2, 3) or x.shape[-1] != D:
        raise ValueError(f"hidden_states have shape {tuple(x.shape)}: give (T, {D}) or (B, S, {D})")
    if ids.shape != gates.shape or (ids.shape[:-1] != tokens and ids.shape[:-1] != (tokens.numel(),)):
        raise ValueError(
            f"top_k_index is {tuple(ids.shape)}, top_k_weights {tuple(gates.shape)}: for hidden_states "
            f"{tuple(x.shape)} give both as ({tokens.numel()}, K)"
        )
    if ids.dtype == torch.bool:
        raise ValueError(
            f"top_k_index is torch.bool, a map of tokens to experts: give the ids of each token's experts, such as "
            f"top_k_weights.topk(K).indices, as integers ({tokens.numel()}, K), and their weights"
        )
    if ids.dtype not in LARGEST_ID or not gates.is_floating_point():
        raise ValueError(f"top_k_index is {ids.dtype}, top_k_weights {gates.dtype}: give integers and floats")
    if LARGEST_ID[ids.dtype] < problem.E - 1:
        raise ValueError(
            f"top_k_index is {ids.dtype}, which cannot hold the ids of {problem.E} experts: give torch.int32 or "
            "torch.int64"
        )
    if autocast is None and x.dtype != weight.dtype:
        raise ValueError(f"hidden_states are {x.dtype}, the experts {weight.dtype}: convert either, or use autocast")
    device = x.device
    if not device == ids.device == gates.device == weight.device:
        raise ValueError(
            f"hidden_states are on {x.device}, top_k_index on {ids.device}, top_k_weights on {gates.device}, the "
            f"experts on {weight.device}: bring them to one device"
        )


def _refuse_distributed(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if hasattr(tensor, "to_local"):
            raise ValueError(f"{name} is a DTensor: give the tokens of this rank, {name}.to_local()")


def _local_part(tensor: Tensor) -> Tensor:
    """Return weights as a plain tensor.

    Raises:
        ValueError: when this rank holds only a part of them.
    """
    if not hasattr(tensor, "to_local"):
        return tensor
    sharded: Any = tensor  # a DTensor, whose module takes long to import
    if sharded.device_mesh.size() > 1 and not all(placement.is_replicate() for placement in sharded.placements):
        raise ValueError(
            f"a parameter of shape {tuple(sharded.shape)} is a DTensor, {sharded.placements} over "
            f"{sharded.device_mesh.size()} ranks, and a layer computes all of its experts: let fully_shard gather it "
            "before the forward, or make a layer of each rank's experts, MoELayer.from_weights of the parts that "
            "to_local() gives, and pass it only their routes, numbered from 0, with -1 for the others"
        )
    return cast(Tensor, sharded.to_local())


def _is_whole(weights: Weights) -> bool:
    """Return whether no weight can be a DTensor: a quick look at their types."""
    if type(weights.w_up_EUD) not in PLAIN or type(weights.w_down_EDF) not in PLAIN:
        return False
    return weights.b_up_EU is None or (type(weights.b_up_EU) in PLAIN and type(weights.b_down_ED) in PLAIN)


def _autocast_dtype(tensor: Tensor, kind: str) -> torch.dtype | None:
    """Return the dtype of autocast on a kind of device, None where it is off or leaves a tensor alone."""
    if kind not in ALWAYS_AUTOCAST and not torch.amp.is_autocast_available(kind):
        return None
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) and tensor.dtype != torch.float64 else None
