"""Blocks as plainly as can be, in float64: loops over tokens, which share an expert's activation with the package.

`ORACLES` has one for each block, by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import NO_ROUTE
from moebench.kernels.torch_ops.activations import activate

Tensors = Mapping[str, Tensor]
Ids = list[list[int]]


def expert(problem: Problem, tensors: Tensors, e: int, x_D: Tensor) -> Tensor:
    """Compute one expert of one token."""
    h_U = tensors["w_up"][e] @ x_D
    if problem.bias:
        h_U = h_U + tensors["b_up"][e]
    y_D = tensors["w_down"][e] @ activate(problem, h_U)
    return y_D + tensors["b_down"][e] if problem.bias else y_D


def experts(problem: Problem, tensors: Tensors, ids: Ids, t: int, x_D: Tensor) -> Tensor:
    """Compute the weighted sum over the experts of token t for what they read of it."""
    y_D = torch.zeros_like(x_D)
    for k, e in enumerate(ids[t]):
        if e != NO_ROUTE:
            y_D = y_D + tensors["gates"][t, k] * expert(problem, tensors, e, x_D)
    return y_D


def mlp(problem: Problem, tensors: Tensors, x_D: Tensor) -> Tensor:
    return tensors["layer_mlp_down"] @ activate(problem, tensors["layer_mlp_up"] @ x_D)


def shared(problem: Problem, tensors: Tensors, ids: Ids) -> list[Tensor]:
    rows = []
    for t, x_D in enumerate(tensors["x"]):
        shared_D = mlp(problem, tensors, x_D)
        if "layer_gate" in tensors:
            shared_D = shared_D * torch.sigmoid(sum(tensors["layer_gate"][0, d] * x_D[d] for d in range(problem.D)))
        rows.append(experts(problem, tensors, ids, t, x_D) + shared_D)
    return rows


def residual_mlp(problem: Problem, tensors: Tensors, ids: Ids) -> list[Tensor]:
    rows = []
    for t, x_D in enumerate(tensors["x"]):
        one, other = tensors["layer_mix"] @ x_D
        share = torch.sigmoid(one - other)  # of a softmax of two
        mlp_D = mlp(problem, tensors, x_D)
        rows.append(share * experts(problem, tensors, ids, t, x_D) + (1 - share) * mlp_D)
    return rows


def lora(problem: Problem, tensors: Tensors, ids: Ids) -> list[Tensor]:
    """Add the low-rank matrices of a token to the dense one, then multiply."""
    rows = []
    for t, x_D in enumerate(tensors["x"]):
        w_DD, b_D = tensors["layer_base"], torch.zeros_like(x_D)
        for k, e in enumerate(ids[t]):
            if e != NO_ROUTE:
                w_DD = w_DD + tensors["gates"][t, k] * tensors["w_down"][e] @ tensors["w_up"][e]
                b_D = b_D + tensors["gates"][t, k] * expert(problem, tensors, e, torch.zeros_like(x_D))
        rows.append(w_DD @ x_D + b_D)
    return rows


def latent(problem: Problem, tensors: Tensors, ids: Ids) -> list[Tensor]:
    rows = []
    for t, x_D in enumerate(tensors["x"]):
        y_D = tensors["layer_out_of"] @ experts(problem, tensors, ids, t, tensors["layer_into"] @ x_D)
        rows.append(y_D + mlp(problem, tensors, x_D) if "layer_mlp_up" in tensors else y_D)
    return rows


def soft_moe(problem: Problem, tensors: Tensors, _: Ids) -> list[Tensor]:
    """Compute the mean that each slot reads, run it, and hand it back, token by token and slot by slot."""
    parameters = parameters_of(problem)
    slots, length = int(parameters.get("slots", "1")), int(parameters.get("length", "0")) or problem.T
    scale = float(parameters.get("scale", "1"))
    count = problem.E * slots
    rows: list[Tensor] = []
    for first in range(0, problem.T, max(1, length)):
        tokens = range(first, min(first + length, problem.T))
        score = {
            (t, s): scale * cosine(tensors["x"][t], tensors["layer_slots"][s]) for t in tokens for s in range(count)
        }
        outputs = []
        for s in range(count):
            total = sum(torch.exp(score[t, s]) for t in tokens)
            mean_D = sum(torch.exp(score[t, s]) / total * tensors["x"][t] for t in tokens)
            gate = tensors["gates"][first // length * count + s, 0]
            outputs.append(gate * expert(problem, tensors, s // slots, torch.as_tensor(mean_D)))
        for t in tokens:
            total = sum(torch.exp(score[t, s]) for s in range(count))
            rows.append(torch.as_tensor(sum(torch.exp(score[t, s]) / total * outputs[s] for s in range(count))))
    return rows


def moa(problem: Problem, tensors: Tensors, ids: Ids) -> list[Tensor]:
    """Let every head of a token look at the keys of its sequence up to the token."""
    length = int(parameters_of(problem).get("length", "256"))
    keys, values = ([tensors[name] @ x_D for x_D in tensors["x"]] for name in ("layer_keys", "layer_values"))
    rows = []
    for t, x_D in enumerate(tensors["x"]):
        y_D = torch.zeros_like(x_D)
        for k, e in enumerate(ids[t]):
            if e != NO_ROUTE:
                o_F = looked_up(tensors["w_up"][e] @ x_D, keys, values, range(t // length * length, t + 1))
                y_D = y_D + tensors["gates"][t, k] * (tensors["w_down"][e] @ o_F)
        rows.append(y_D)
    return rows


def switchhead(problem: Problem, tensors: Tensors, ids: Ids) -> list[Tensor]:
    """Go through heads one after the other: the values of all tokens first, then what each token reads."""
    given = parameters_of(problem)
    heads, length = int(given.get("heads", "2")), int(given.get("length", "256"))
    x_TD, T, F = tensors["x"], problem.T, problem.F
    rows = [torch.zeros_like(x_D) for x_D in x_TD]
    for h in range(heads):
        of_head = slice(h * F, (h + 1) * F)
        keys = [tensors["layer_keys"][of_head] @ x_D for x_D in x_TD]
        values = []
        for t, x_D in enumerate(x_TD):
            v_F = x_D.new_zeros(F)
            for k, e in enumerate(ids[h * T + t]):
                if e != NO_ROUTE:
                    v_F = v_F + tensors["gates"][h * T + t, k] * (tensors["w_up"][e] @ x_D)
            values.append(v_F)
        for t, x_D in enumerate(x_TD):
            q_F = tensors["layer_queries"][of_head] @ x_D
            o_F = looked_up(q_F, keys, values, range(t // length * length, t + 1))
            route = (heads + h) * T + t
            for k, e in enumerate(ids[route]):
                if e != NO_ROUTE:
                    rows[t] = rows[t] + tensors["gates"][route, k] * (tensors["w_down"][e] @ o_F)
    return rows


def looked_up(q_F: Tensor, keys: list[Tensor], values: list[Tensor], seen: range) -> Tensor:
    """Return the mean of the values that are seen, by how well their keys match."""
    weights = [torch.exp(q_F @ keys[s] / len(q_F) ** 0.5) for s in seen]
    return torch.stack([w * values[s] for w, s in zip(weights, seen, strict=True)]).sum(0) / torch.stack(weights).sum()


def cosine(one_D: Tensor, other_D: Tensor) -> Tensor:
    return (one_D @ other_D) / (one_D @ one_D).sqrt() / (other_D @ other_D).sqrt()


def parameters_of(problem: Problem) -> dict[str, str]:
    """Return the parameters in the text of the block."""
    text = problem.block.partition(":")[2]
    return dict(part.split("=") for part in text.split(",")) if text else {}


ORACLES: dict[str, Callable[[Problem, Tensors, Ids], list[Tensor]]] = {
    "shared": shared,
    "residual_mlp": residual_mlp,
    "lora": lora,
    "latent": latent,
    "soft_moe": soft_moe,
    "moa": moa,
    "switchhead": switchhead,
}
