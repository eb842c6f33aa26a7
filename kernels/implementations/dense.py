"""Reference rate: one dense expert for all rows, two matmuls with the activation between them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import Config
from ..instruments.stage import StageName, stage
from ..kernel import Cost, Kernel, Layer
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import Routing
from ..problem.tensors import Weights
from ..torch_ops.activations import activate


class Dense(Kernel):
    """The expert products of all N rows by one expert, whose gate weight is 1."""

    family = "reference"

    def solves(self, problem: Problem) -> Problem:
        return problem.dense()

    def refuses(self, problem: Problem) -> str | None:
        if problem.mode != "forward":
            return f"is a forward rate only, the problem has mode = {problem.mode}"
        return super().refuses(problem)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        def layer(x_TD: Tensor, _: Routing, weights: Weights) -> Tensor:
            a_TF = activate(problem, _product("up", x_TD, weights.w_up_EUD[0]))
            return _product("down", a_TF, weights.w_down_EDF[0])

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        width = problem.U + 2 * problem.F + problem.D
        return Cost(executed_rows=problem.T, workspace_bytes=problem.T * width * ELEMENT_BYTES[problem.dtype])


def _product(name: StageName, rows_TI: Tensor, w_OI: Tensor) -> Tensor:
    with stage(name):
        return rows_TI @ w_OI.T


kernel = Dense()
