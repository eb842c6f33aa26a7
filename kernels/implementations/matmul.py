"""Reference rate: one plain matmul with the FLOPs of the expert products."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ..config import Config
from ..kernel import Cost, Kernel, Layer
from ..oracle import Result
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import Routing
from ..problem.tensors import Inputs, Weights
from ..question import Question


def _given(problem: Problem, drawn: Inputs, _: int) -> Inputs:
    """Join both weights to one matrix (1, U + F, D), and in training make an output gradient (N, U + F)."""
    weights = drawn.weights
    matrix = torch.cat([weights.w_up_EUD.detach(), weights.w_down_EDF.detach().transpose(1, 2)], dim=1)
    return dataclasses.replace(
        drawn,
        weights=Weights(w_up_EUD=matrix, w_down_EDF=matrix.new_empty(1, problem.D, 0)),
        dy_TD=None if drawn.dy_TD is None else drawn.dy_TD @ matrix[0].T,
    )


def _truth(_: Problem, inputs: Inputs) -> Result:
    """Compute the product in float64, and its gradients; those of inputs that are not multiplied are zeros."""
    x_ND, matrix_CD = inputs.x_TD.detach().double(), inputs.weights.w_up_EUD.detach()[0].double()
    y_NC = x_ND @ matrix_CD.T
    if inputs.dy_TD is None:
        return Result(y_TD=y_NC, gradients={})
    dy_NC = inputs.dy_TD.double()
    products = {"x": dy_NC @ matrix_CD, "w_up": (dy_NC.T @ x_ND)[None]}
    unused = {name: torch.zeros_like(tensor.detach()) for name, tensor in inputs.differentiable().items()}
    return Result(y_TD=y_NC, gradients=unused | products)


def _truth_bytes(problem: Problem) -> int:
    """Return the bytes of both operands and the product in float64, twice in training, and of the joined inputs."""
    columns, element = problem.U + problem.F, ELEMENT_BYTES[problem.dtype]
    matrix, operands, product = problem.D * columns, problem.D * (problem.T + columns), problem.T * columns
    if problem.mode == "forward":
        return element * matrix + 8 * (operands + product)
    return element * (matrix + product) + 16 * (operands + product)


class Matmul(Kernel):
    """The product of x (N, D) and a matrix (U + F, D), transposed: 2 N D (U + F) FLOPs, thrice that in training."""

    family = "reference"
    question = Question(given=_given, truth=_truth, truth_bytes=_truth_bytes, by_token=True)

    def solves(self, problem: Problem) -> Problem:
        return problem.dense()

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        def layer(x_TD: Tensor, _: Routing, weights: Weights) -> Tensor:
            return x_TD @ weights.w_up_EUD.flatten(0, 1).T  # the gradient of flatten is a view, that of an index is not

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        product_bytes = problem.T * (problem.U + problem.F) * ELEMENT_BYTES[problem.dtype]
        return Cost(executed_rows=problem.T, workspace_bytes=product_bytes)


kernel = Matmul()
