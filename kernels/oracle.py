"""The reference result in float64: `oracle` is the plainest loop that computes an MoE layer.

`oracle` loops over tokens. `reference` computes the same expert by expert, fast enough to check full-size problems
before they are timed; tests hold the two equal.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .problem import Problem
from .problem.popularity import choices
from .problem.routing import NO_ROUTE, Routing, group_by_expert
from .problem.shard import Shard, split_evenly
from .problem.tensors import Inputs
from .torch_ops.activations import activate

ROWS = 4096  # rows of an expert that `reference` multiplies at a time: enough for a product at full speed
OF_TOKENS = ("x", "gates")  # gradients with a row for each token; the others have one for each expert


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a call: y (T, D), and in training the gradients by the names of `Inputs.differentiable`."""

    y_TD: Tensor
    gradients: dict[str, Tensor]

    def shard(self, shard: Shard) -> Result:
        """Return the part of the result that one rank must produce."""
        gradients = {
            name: gradient[shard.tokens if name in OF_TOKENS else shard.experts]
            for name, gradient in self.gradients.items()
        }
        return Result(y_TD=self.y_TD[shard.tokens], gradients=gradients)


def drop(problem: Problem, routing: Routing) -> Routing:
    """Set to −1 every route that the problem's capacity does not keep. Each expert has one queue on each rank.

    ``first_come`` serves tokens in order. ``first_choices`` and ``gate_weight`` serve all first choices, then all
    second ones, and so on: the one tokens in order, the other each time the token with the largest gate weight first.
    Weights that are NaN or of absent routes do not count.
    """
    if problem.capacity is None:
        return routing
    ids, gates = routing.ids_TK.tolist(), routing.gates_TK.tolist()
    start = 0
    for tokens in split_evenly(problem.T, problem.ranks):
        of_rank = range(start, start + tokens)
        service = [(t, k) for t in of_rank for k in range(routing.chosen)]
        if problem.drop != "first_come":
            by_gate = sorted(of_rank, key=lambda t: -_largest(gates[t], ids[t]))
            order = by_gate if problem.drop == "gate_weight" else of_rank
            service = [(t, k) for k in range(routing.chosen) for t in order]
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


def _largest(gates: list[float], ids: list[int]) -> float:
    """Return the largest gate weight of a token's routes."""
    counted = [gate for gate, expert in zip(gates, ids, strict=True) if expert != NO_ROUTE and not math.isnan(gate)]
    return max(counted, default=-math.inf)


def oracle(problem: Problem, inputs: Inputs) -> Result:
    """Compute y_t = sum over kept k of g_tk * (W_down[e] act(W_up[e] x_t + b_up[e]) + b_down[e]), token by token.

    W is the stored weight times its scales, where there are any. Inputs with an output gradient have gradients; that of
    an input that y does not depend on is zero.
    """
    dy_TD = inputs.dy_TD
    leaves = {
        name: tensor.detach().double().requires_grad_(dy_TD is not None and name in inputs.differentiable())
        for name, tensor in inputs.tensors().items()
    }
    y_TD = _token_by_token(problem, leaves, drop(problem, inputs.routing).ids_TK.tolist())
    if dy_TD is None:
        return Result(y_TD=y_TD, gradients={})
    gradients = [torch.zeros_like(leaf) for leaf in leaves.values()]
    if y_TD.requires_grad:
        gradients = list(torch.autograd.grad(y_TD, list(leaves.values()), dy_TD.double(), materialize_grads=True))
    return Result(y_TD=y_TD.detach(), gradients=dict(zip(leaves, gradients, strict=True)))


def _token_by_token(problem: Problem, leaves: dict[str, Tensor], ids: list[list[int]]) -> Tensor:
    x_TD, gates_TK = leaves["x"], leaves["gates"]
    zeros_E1, ones_E1 = x_TD.new_zeros(problem.E, 1), x_TD.new_ones(problem.E, 1)
    w_up_EUD, b_up_EU, s_up_EU = leaves["w_up"], leaves.get("b_up", zeros_E1), leaves.get("s_up", ones_E1)
    w_down_EDF, b_down_ED, s_down_ED = leaves["w_down"], leaves.get("b_down", zeros_E1), leaves.get("s_down", ones_E1)
    rows = []
    for t, experts in enumerate(ids):
        y_D = torch.zeros_like(x_TD[t])
        for k, e in enumerate(experts):
            if e != NO_ROUTE:
                h_F = activate(problem, w_up_EUD[e] @ x_TD[t] * s_up_EU[e] + b_up_EU[e])
                y_D = y_D + gates_TK[t, k] * (w_down_EDF[e] @ h_F * s_down_ED[e] + b_down_ED[e])
        rows.append(y_D)
    return torch.stack(rows) if rows else torch.zeros_like(x_TD)


def reference(problem: Problem, inputs: Inputs) -> Result:
    """Compute the result of `oracle`, with one product for up to `ROWS` rows of an expert.

    An expert is finished, gradients included, before the next one begins, so that float64 copies exist of one expert's
    weights and rows at a time; see `reference_bytes`.
    """
    training = inputs.dy_TD is not None
    groups = group_by_expert(drop(problem, inputs.routing))
    token_N = groups.token_N
    y_TD = torch.zeros_like(inputs.x_TD, dtype=torch.float64, requires_grad=False)
    sums = inputs.differentiable() if training else {}
    sums = {name: torch.zeros_like(tensor, dtype=torch.float64, requires_grad=False) for name, tensor in sums.items()}
    result = Result(y_TD=y_TD, gradients=sums)
    with torch.set_grad_enabled(training):
        for e, start, end in groups.slices():
            for first in range(start, end, ROWS):
                rows = slice(first, min(first + ROWS, end))
                _add_rows(problem, inputs, result, e, token_N[rows], groups.route_N[rows])
    return result


def _add_rows(problem: Problem, inputs: Inputs, result: Result, e: int, token_n: Tensor, route_n: Tensor) -> None:
    """Add to ``result`` the contribution of the routes ``route_n`` of the tokens ``token_n`` to expert ``e``."""
    part = {name: tensor.detach()[e] for name, tensor in inputs.weights.named().items()}
    part |= {"x": inputs.x_TD.detach()[token_n], "gates": inputs.routing.gates_TK.detach().flatten()[route_n]}
    part = {name: tensor.double().requires_grad_(bool(result.gradients)) for name, tensor in part.items()}
    a_nF = activate(problem, _product(part, "up", part["x"]))
    rows_nD = _product(part, "down", a_nF) * part["gates"][:, None]
    del a_nF  # autograd keeps it where it is needed
    result.y_TD.index_add_(0, token_n, rows_nD.detach())
    if inputs.dy_TD is None:
        return
    found = torch.autograd.grad(rows_nD, list(part.values()), inputs.dy_TD[token_n].double())
    gradients = dict(zip(part, found, strict=True))
    result.gradients["x"].index_add_(0, token_n, gradients.pop("x"))
    result.gradients["gates"].view(-1)[route_n] = gradients.pop("gates")
    for name, gradient in gradients.items():
        result.gradients[name][e] += gradient


def _product(part: dict[str, Tensor], name: str, rows: Tensor) -> Tensor:
    """Multiply rows by an expert's matrix of this name; apply its scales and its bias where there are any."""
    product = rows @ part[f"w_{name}"].T
    if f"s_{name}" in part:
        product = product * part[f"s_{name}"]
    return product + part[f"b_{name}"] if f"b_{name}" in part else product


def reference_bytes(problem: Problem) -> int:
    """Return the bytes that `reference` allocates at its peak; tests hold it within a tenth of the measured peak.

    All tensors except the sorted routes are float64: the result, and for one expert at a time its weights, its input
    and output rows, and the largest set of intermediate tensors that is alive at any moment.
    """
    D, U, F = problem.D, problem.U, problem.F
    n = min(ROWS, _fullest(problem))
    # The activated half, and its product with the other; the identity makes no tensor of its own.
    activation = F * ((problem.activation != "identity") + problem.gated)
    steps = F * _tensors_between(problem)
    matrices, vectors = D * (U + F), (U + D) * (problem.bias + problem.quantised)
    held = problem.T * D + 2 * problem.N + matrices + vectors + n * (D + 1)
    if problem.mode == "forward":
        outputs = 2 if problem.bias or problem.quantised else 1  # scaling and adding a bias each make a new one
        return 8 * (held + n * max(outputs * U, U + activation + steps, F + 2 * D))
    held += problem.T * D + problem.N + problem.E * (matrices + vectors) + 2 * n * D
    at_the_gates = n * (U + activation + steps + 3 * D)
    at_the_second_product = n * (U + activation + steps + F + D) + D * F
    at_the_activation = n * (2 * U + activation + steps) + D * F
    at_the_first_product = n * (U + D) + matrices
    return 8 * (held + max(at_the_gates, at_the_second_product, at_the_activation, at_the_first_product))


def _tensors_between(problem: Problem) -> int:
    """Return how many more tensors (n, F) an activation of several steps holds: autograd keeps what each step made."""
    forward, training = {"relu2": (0, 1), "silu_clamp10": (1, 2), "swiglu_oai": (1, 3), "situ": (1, 3)}.get(
        problem.activation, (0, 0)
    )
    kept = forward if problem.mode == "forward" else training
    return kept + 1 if problem.activation == "relu2" and not problem.gated else kept


def _fullest(problem: Problem) -> int:
    """Estimate the rows of the fullest expert: the expected rows of the most popular one, plus the spread."""
    share = float(choices(problem).included_E.max())
    spread = math.sqrt(2 * problem.T * share * max(0.0, 1 - share) * math.log(problem.E))
    most = problem.T if problem.capacity is None else problem.capacity * problem.ranks
    return min(math.ceil(problem.T * share + spread), most)
