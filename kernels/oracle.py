"""The truth: float64, and the dumbest loop that computes an MoE layer.

`oracle` loops over tokens. `reference` is the same function expert by expert, fast enough to check full-size problems
before they are timed; the tests hold the two equal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .activations import activate
from .problem import Problem
from .routing import NO_ROUTE, Routing, group_by_expert
from .shard import Shard, split_evenly
from .tensors import Inputs

OF_TOKENS = ("x", "gates")  # the gradients with a row for each token; the others have one for each expert

Experts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""w_up (E, U, D), w_down (E, D, F), and for the outputs of each the biases (E, U) and (E, D), or zeros of (E, 1), and
the scales, or ones of (E, 1)."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a call gives: y (T, D), and for a training step the gradients by the names of `Inputs.differentiable`."""

    y_TD: Tensor
    gradients: dict[str, Tensor]

    def shard(self, shard: Shard) -> Result:
        """The part of the result that one rank must produce."""
        gradients = {
            name: gradient[shard.tokens if name in OF_TOKENS else shard.experts]
            for name, gradient in self.gradients.items()
        }
        return Result(y_TD=self.y_TD[shard.tokens], gradients=gradients)


def drop(problem: Problem, routing: Routing) -> Routing:
    """The routes that the problem's capacity keeps, the others made −1: one queue per expert and rank, served in turn.

    ``first_come`` serves tokens in order; ``gate_weight`` serves all first choices, then all second ones, and so on,
    each time the token with the largest gate weight first.
    """
    if problem.capacity is None:
        return routing
    ids, gates = routing.ids_TK.tolist(), routing.gates_TK.tolist()
    start = 0
    for tokens in split_evenly(problem.T, problem.ranks):
        of_rank = range(start, start + tokens)
        service = [(t, k) for t in of_rank for k in range(problem.K)]
        if problem.drop == "gate_weight":
            by_gate = sorted(of_rank, key=lambda t: -max(gates[t]))
            service = [(t, k) for k in range(problem.K) for t in by_gate]
        room = [problem.capacity] * problem.E
        for t, k in service:
            expert = ids[t][k]
            if expert == NO_ROUTE:
                continue
            if room[expert]:
                room[expert] -= 1
            else:
                ids[t][k] = NO_ROUTE
        start += tokens
    kept_TK = torch.tensor(ids, dtype=torch.int32, device=routing.ids_TK.device).view_as(routing.ids_TK)
    return dataclasses.replace(routing, ids_TK=kept_TK)


def oracle(problem: Problem, inputs: Inputs) -> Result:
    """y_t = sum over kept k of g_tk * (W_down[e] act(W_up[e] x_t + b_up[e]) + b_down[e]), token by token.

    W is what is held times its scales, where there are any.
    """

    def forward(x_TD: Tensor, gates_TK: Tensor, weights: Experts, routing: Routing) -> Tensor:
        w_up_EUD, w_down_EDF, b_up_EU, b_down_ED, s_up_EU, s_down_ED = weights
        rows = []
        for t, ids in enumerate(routing.ids_TK.tolist()):
            y_D = torch.zeros_like(x_TD[t])
            for k, e in enumerate(ids):
                if e != NO_ROUTE:
                    h_F = activate(problem, w_up_EUD[e].double() @ x_TD[t] * s_up_EU[e] + b_up_EU[e])
                    y_D = y_D + gates_TK[t, k] * (w_down_EDF[e].double() @ h_F * s_down_ED[e] + b_down_ED[e])
            rows.append(y_D)
        return torch.stack(rows) if rows else torch.zeros_like(x_TD)

    return _evaluate(problem, inputs, forward)


def reference(problem: Problem, inputs: Inputs) -> Result:
    """As `oracle`, with one product for all rows of an expert."""

    def forward(x_TD: Tensor, gates_TK: Tensor, weights: Experts, routing: Routing) -> Tensor:
        w_up_EUD, w_down_EDF, b_up_EU, b_down_ED, s_up_EU, s_down_ED = weights
        groups = group_by_expert(routing)
        rows = []
        for e, start, end in groups.slices():
            h_nU = x_TD[groups.token_N[start:end]] @ w_up_EUD[e].double().T * s_up_EU[e] + b_up_EU[e]
            rows.append(activate(problem, h_nU) @ w_down_EDF[e].double().T * s_down_ED[e] + b_down_ED[e])
        if not rows:
            return torch.zeros_like(x_TD)
        y_ND = torch.cat(rows) * gates_TK.flatten()[groups.route_N, None]
        return torch.zeros_like(x_TD).index_add(0, groups.token_N, y_ND)

    return _evaluate(problem, inputs, forward)


def _evaluate(problem: Problem, inputs: Inputs, forward: Callable[..., Tensor]) -> Result:
    """Run ``forward`` in float64 on the kept routes; what does not depend on an input has a gradient of zeros.

    Without gradients the weights stay as they are, and ``forward`` converts one expert at a time. Where there is no
    bias, ``forward`` is given zeros, and ones where there are no scales.
    """
    training = problem.mode == "train"
    leaves = {name: tensor.detach() for name, tensor in inputs.tensors().items()}
    leaves |= {name: leaves[name].double() for name in (leaves if training else leaves.keys() - {"w_up", "w_down"})}
    for leaf in leaves.values():
        leaf.requires_grad_(training)
    zeros_E1, ones_E1 = leaves["x"].new_zeros(problem.E, 1), leaves["x"].new_ones(problem.E, 1)
    biases = (leaves.get("b_up", zeros_E1), leaves.get("b_down", zeros_E1))
    scales = (leaves.get("s_up", ones_E1), leaves.get("s_down", ones_E1))
    weights = (leaves["w_up"], leaves["w_down"], *biases, *scales)
    y_TD = forward(leaves["x"], leaves["gates"], weights, drop(problem, inputs.routing))
    if not training:
        return Result(y_TD=y_TD, gradients={})
    gradients = [torch.zeros_like(leaf) for leaf in leaves.values()]
    if y_TD.requires_grad:
        gradients = list(
            torch.autograd.grad(y_TD, list(leaves.values()), inputs.dy_TD.double(), materialize_grads=True)
        )
    return Result(y_TD=y_TD.detach(), gradients=dict(zip(leaves, gradients, strict=True)))


def reference_bytes(problem: Problem) -> int:
    """About what `reference` allocates at its peak: float64 operands, the rows of all experts, and their gradients."""
    weights = problem.D * (problem.U + problem.F)
    rows = problem.N * (3 * problem.D + problem.U + 2 * problem.F)
    if problem.mode == "forward":
        return 8 * (problem.T * problem.D + weights + rows)
    return 2 * 8 * (problem.T * problem.D + problem.E * weights + rows)
