"""Routes of workloads: stored expert ids and gate weights, or what the router of a definition makes of stored logits.

Definitions with logits are those of flashinfer-ai/flashinfer, `flashinfer/trace/templates/moe.py`, whose names tell the
router and its numbers, as in moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ...common.errors import UserError
from ...kernels.problem import DType, InvalidProblem, Problem
from ...kernels.problem.draw_routes import refuse_nan
from ...kernels.problem.routing import NO_ROUTE
from ...kernels.problem.topk_rule import TopkRule, choose, weigh
from ...kernels.problem.traces.trace_format import LayerDescription, LayerRoutes
from .dataset_reader import InvalidDataset, MoeDefinition, MoeWorkload
from .moe_definition import GATES, IDS, described
from .tensor_file import read_tensor

LOGITS: Final = "routing_logits"
BIAS: Final = "routing_bias"
SCALE: Final = "routed_scaling_factor"
OFFSET: Final = "local_expert_offset"
DEEPSEEK: Final = "ds"
RULES: Final[Mapping[str, TopkRule]] = {
    "default": TopkRule(score="softmax"),
    "renormalize": TopkRule(score="softmax", renormalise=True),
    "renormalize_naive": TopkRule(score="softmax", renormalise=True),  # a softmax, its largest, divided by their sum
    "llama4": TopkRule(score="sigmoid"),
}
"""Rules of routers by their word in a definition's name; a bias is added to the logits. That of ``ds`` has groups."""


class NoRoutes(UserError, ValueError):
    """A workload without recorded routes, as its ids or logits are drawn at random; the message says which."""


@dataclass(frozen=True)
class ImportedLayer:
    """A workload as a problem under a uniform load, its routes as a layer of a trace, and what differs, in words."""

    problem: Problem
    routes: LayerRoutes
    note: str = ""


def imported(workload: MoeWorkload) -> ImportedLayer:
    """Return a workload with its real routes.

    Raises:
        NoRoutes: when they are not stored.
        InvalidDataset: when the workload, or a tensor of it, does not fit its definition.
    """
    definition = workload.definition
    if IDS in definition.inputs:
        ids_TK = _tensor(workload, IDS)
        gates_TK = _tensor(workload, GATES) if GATES in definition.inputs and _stored(workload, GATES) else None
    elif LOGITS in definition.inputs:
        ids_TK, gates_TK = _routed(workload)
    else:
        raise InvalidDataset(f"{definition.where} has neither {IDS} nor {LOGITS}: its routing is not known here")
    if ids_TK.dtype.kind not in "iu" or ids_TK.ndim != 2 or not ids_TK.size:
        raise InvalidDataset(
            f"{workload.where} has ids of shape {ids_TK.shape} of {ids_TK.dtype}: give integers (tokens, K)"
        )
    local, first = _local_experts(workload)
    inside_TK = (ids_TK >= first) & (ids_TK < first + local)
    ids_TK = np.where(inside_TK, ids_TK - first, NO_ROUTE).astype(np.int32)
    problem = _problem(workload, tokens=len(ids_TK), chosen=ids_TK.shape[1], experts=local)
    name = re.sub(r"[^A-Za-z0-9_.\-]", "_", workload.uuid)[:200]
    layer = LayerDescription(name=name, experts=local, steps=(len(ids_TK),))
    gates = None if gates_TK is None else np.where(inside_TK, gates_TK, 0).astype(np.float32)
    return ImportedLayer(problem, LayerRoutes(layer=layer, ids_TK=ids_TK, gates_TK=gates), _note(definition, inside_TK))


def _note(definition: MoeDefinition, inside_TK: NDArray[np.bool_]) -> str:
    notes = []
    if not inside_TK.all():
        notes.append(f"{1 - inside_TK.mean():.0%} of the routes are to experts elsewhere, and absent here")
    if "gemm1_weights_scale" in definition.inputs:
        notes.append("its weights have scales of blocks, those of moebench of rows")
    return "; ".join(notes)


def _stored(workload: MoeWorkload, name: str) -> bool:
    return workload.inputs.get(name, {}).get("type") == "safetensors"


def _tensor(workload: MoeWorkload, name: str) -> NDArray[Any]:
    """Return a stored input, whose shape is that of the definition."""
    given = workload.inputs.get(name, {})
    path, key = given.get("path"), given.get("tensor_key")
    if given.get("type") != "safetensors":
        raise NoRoutes(
            f"{workload.where}: {name} is {given.get('type', 'missing')!s:.20}, not stored: it has no real routes"
        )
    if not (isinstance(path, str) and isinstance(key, str)):
        raise InvalidDataset(f"{workload.where} names no file and tensor for {name}: give path and tensor_key")
    found = read_tensor(workload.file(path), key)
    if found.shape != workload.shape(name):
        raise InvalidDataset(
            f"{workload.where} has {name} of shape {found.shape}, its definition {workload.shape(name)}: fetch it again"
        )
    return found


def _scalar(workload: MoeWorkload, name: str, default: float) -> float:
    value = workload.inputs.get(name, {}).get("value", default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**31:
        raise InvalidDataset(f"{workload.where} has {name} = {value!s:.40}: give a number")
    return value


def _local_experts(workload: MoeWorkload) -> tuple[int, int]:
    """Return how many experts the workload computes, and the id of the first."""
    axis = (workload.definition.inputs.get("gemm1_weights") or ((),))[0]
    sizes = workload.definition.sizes
    count = sizes.get(axis[0] if axis else "", sizes.get("num_local_experts", sizes.get("num_experts", 0)))
    offset = _scalar(workload, OFFSET, 0)
    if count < 1 or offset != int(offset) or offset < 0:
        raise InvalidDataset(
            f"{workload.where} computes {count} experts from number {offset}: give one or more, from 0"
        )
    return count, int(offset)


def _routed(workload: MoeWorkload) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return ids and gates that the router of the definition makes of stored logits."""
    name, sizes = workload.definition.name, workload.definition.sizes
    found = re.search(r"_([a-z0-9_]+?)_routing", name.replace("moe_fp8_block_scale", "", 1))
    word = found[1] if found else ""
    if word not in RULES and word != DEEPSEEK:
        raise InvalidDataset(f"{name} does not name a router that is known here: {', '.join([DEEPSEEK, *RULES])}")
    chosen = 1 if word == "llama4" else _number(name, "topk", sizes.get("top_k"))
    logits_TE = torch.from_numpy(np.array(_tensor(workload, LOGITS), dtype=np.float32))
    bias_E = None
    if _stored(workload, BIAS):
        bias_E = torch.from_numpy(np.array(_tensor(workload, BIAS), dtype=np.float32))
    elif workload.inputs.get(BIAS):
        raise NoRoutes(f"{workload.where}: {BIAS} is not stored: it has no real routes")
    if logits_TE.ndim != 2 or not logits_TE.numel() or not 1 <= chosen <= logits_TE.shape[1]:
        raise InvalidDataset(
            f"{workload.where} chooses {chosen} experts by logits {tuple(logits_TE.shape)}: fetch it again"
        )
    rule = RULES.get(word) or _deepseek(workload, logits_TE.shape[1])
    if word != DEEPSEEK and bias_E is not None:
        logits_TE, bias_E = logits_TE + bias_E, None
    try:
        refuse_nan(logits_TE)
    except ValueError as error:
        raise InvalidDataset(f"{workload.where}: {error}") from error
    ids_TK = choose(rule, logits_TE, bias_E, chosen)
    gates_TK = weigh(rule, logits_TE, ids_TK) * _scalar(workload, SCALE, 1.0)
    return ids_TK.numpy(), gates_TK.numpy()


def _deepseek(workload: MoeWorkload, experts: int) -> TopkRule:
    """Return the rule of DeepSeek-V3: the sigmoid, within the groups whose two best have the largest sums."""
    name, sizes = workload.definition.name, workload.definition.sizes
    groups, best = _number(name, "ng", sizes.get("n_group")), _number(name, "kg", sizes.get("topk_group"))
    if not 1 <= best <= groups or experts % groups or (groups > 1 and experts // groups < 2):
        raise InvalidDataset(
            f"{name} has {groups} groups, of which {best} are taken, of {experts} experts: fetch it again"
        )
    return TopkRule(score="sigmoid", groups=groups, top_groups=best, group_best=2, renormalise=True)


def _number(name: str, word: str, size: int | None) -> int:
    """Return a number of a definition: that of its axis, or the one behind a word of its name."""
    found = re.search(rf"_{word}(\d{{1,9}})(?=_|$)", name)
    if size is None and found is None:
        raise InvalidDataset(f"{name} does not tell its number {word}: give a definition with it in its name")
    return size if size is not None else int(found[1]) if found else 0


def _problem(workload: MoeWorkload, *, tokens: int, chosen: int, experts: int) -> Problem:
    definition = workload.definition
    shapes = {name: definition.inputs.get(name) for name in ("gemm1_weights", "gemm2_weights")}
    for name, found in shapes.items():
        if found is None or len(found[0] or ()) != 3:
            raise InvalidDataset(
                f"{definition.where} has no input {name} of three axes: its experts are not known here"
            )
    (_, rows, width), (_, _, hidden) = workload.shape("gemm1_weights"), workload.shape("gemm2_weights")
    dtype = definition.inputs["gemm1_weights"][1]
    if dtype not in get_args(DType):
        raise InvalidDataset(
            f"{definition.where} has weights of {dtype!r:.40}: {', '.join(get_args(DType))} are known here"
        )
    activation, gated = described(definition.name) or ("silu", rows == 2 * hidden)
    if rows != (2 if gated else 1) * hidden:
        raise InvalidDataset(
            f"{definition.where} has {rows} rows of gemm1_weights and {hidden} columns of gemm2_weights"
        )
    try:
        return Problem(
            T=tokens,
            D=width,
            F=hidden,
            E=experts,
            K=chosen,
            gated=gated,
            activation=activation,
            dtype=dtype,  # type: ignore[arg-type]  # checked above
            bias="gemm1_bias" in definition.inputs,
        )
    except InvalidProblem as error:
        raise InvalidDataset(f"{workload.where}: {error}") from error
