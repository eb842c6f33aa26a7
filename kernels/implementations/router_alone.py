"""The router of a layer alone: ids, gates and the rows of every expert, from the logits of the tokens.

Its time beside those of the dispatches is the share of a layer that choosing experts costs. The product of the tokens
with the router's weights is not in it: that is one dense matmul of 2 T D E FLOPs for every router.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ..config import Config
from ..fused_router import topk_router
from ..instruments.stage import stage
from ..kernel import Cost, Kernel, Layer
from ..oracle import Result
from ..problem import ROUTE_BYTES, Problem, draw_routes
from ..problem.load import Load
from ..problem.router import Router, RouterInputs
from ..problem.routing import Routing
from ..problem.tensors import Inputs, Weights
from ..problem.trace import label
from ..question import Question

SEED = 0  # of the random choices of a router: its calls and their reference make the same


def _given(problem: Problem, drawn: Inputs, seed: int) -> Inputs:
    """Take logits in place of the tokens, and behind them ids of a vocabulary where the router reads these."""
    inputs = draw_routes.draw_router_inputs(problem, seed=seed)
    columns = [inputs.logits_TE.float()]
    if inputs.token_T is not None and Router.parse(problem.router).reads_token_ids:
        columns.append(inputs.token_T[:, None].float())
    return dataclasses.replace(drawn, x_TD=torch.cat(columns, 1).to(drawn.x_TD.device))


def _truth(problem: Problem, inputs: Inputs) -> Result:
    """Route by the plain rule, which tests hold equal to loops over the tokens."""
    routing = _routed(problem, inputs.x_TD.clone(), draw_routes.route)
    return Result(y_TD=_result(problem, routing).double(), gradients={})


def _routed(problem: Problem, x_TD: Tensor, route: Callable[[Router, RouterInputs, int], Routing]) -> Routing:
    router = Router.parse(problem.router)
    logits_TE, token_T = x_TD, None
    if router.reads_token_ids:
        logits_TE, token_T = x_TD[:, :-1], x_TD[:, -1].long()
    generator = torch.Generator(x_TD.device).manual_seed(SEED)
    return route(router, RouterInputs(logits_TE=logits_TE, token_T=token_T, generator=generator), problem.K)


def _result(problem: Problem, routing: Routing) -> Tensor:
    """Return ids and gates, (T, 2 W), and behind them rows with the counts; all are of the order of 1."""
    choices_TW = torch.cat((routing.ids_TK / problem.E, routing.gates_TK), 1)
    width = choices_TW.shape[1]
    counts_E = routing.counts_E() / max(1, problem.T)
    rows = -(-problem.E // width)
    return torch.cat((choices_TW, functional.pad(counts_E, (0, rows * width - problem.E)).view(rows, width).float()))


def _token_rows(problem: Problem, y_TD: Tensor) -> Tensor:
    """Return each token's gate weight for every expert, (T, E), −0 where it has no route to one."""
    ids_TW, gates_TW = y_TD[: problem.T].chunk(2, dim=1)
    column_TW = (ids_TW * problem.E).round().long()
    dense_TE = y_TD.new_full((problem.T, problem.E + 1), -0.0)
    dense_TE.scatter_(1, column_TW.where(column_TW >= 0, problem.E), gates_TW)
    return dense_TE[:, : problem.E]


def _ideal_bytes(problem: Problem, _: Routing) -> int:
    """Return the bytes of the logits and of the routes."""
    return problem.token_bytes + problem.N * ROUTE_BYTES


def _truth_bytes(problem: Problem) -> int:
    return 4 * problem.token_bytes + 4 * problem.N * ROUTE_BYTES


class RouterAlone(Kernel):
    """The router of the problem; problems differ in their router."""

    family = "router"
    drops = True
    adds_biases = True
    question = Question(
        given=_given,
        truth=_truth,
        truth_bytes=_truth_bytes,
        scales_tokens=False,
        token_rows=_token_rows,
        useful_flops=lambda *_: 0,
        ideal_bytes=_ideal_bytes,
    )

    def solves(self, problem: Problem) -> Problem:
        """Return the problem with logits for tokens, in float32, and with next to no experts."""
        columns = problem.E + Router.parse(problem.router).extra_columns
        return problem.replace(
            D=columns, F=1, gated=False, activation="relu", bias=False, dtype="float32", capacity_factor=None
        )

    def refuses(self, problem: Problem) -> str | None:
        if problem.mode != "forward":
            return f"is measured in a forward only, the problem has mode = {problem.mode}"
        if Load.parse(problem.load).trace is not None:
            return f"needs logits to choose by, the load {label(problem.load)} has the choices of another router"
        return super().refuses(problem)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        def layer(x_TD: Tensor, _: Routing, __: Weights) -> Tensor:
            with stage("route"):
                return _result(problem, _routed(problem, x_TD, topk_router.route))

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        return Cost(executed_rows=0, workspace_bytes=4 * problem.token_bytes + 2 * problem.N * ROUTE_BYTES)


kernel = RouterAlone()
