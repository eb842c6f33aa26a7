"""The experts of a rank: routes to others are skipped, and an expert twice in a row adds up however few there are."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.expert_parallel.local_experts import LocalExperts, by_expert, local_numbers, local_problem
from moebench.kernels.kernel import Cost, Kernel, Layer
from moebench.kernels.oracle import reference
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import NO_ROUTE, Routing
from moebench.kernels.problem.tensors import Weights, draw_inputs, draw_weights

CPU = torch.device("cpu")
PROBLEM = Problem(T=6, D=8, F=4, E=5, K=3, mode="train")


class ReadsAll(Kernel):
    """Fake implementation that fails on an absent route and adds up gate weights."""

    family = "fake"
    reads_every_route = True

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        def layer(x_TD: Tensor, routing: Routing, _weights: Weights) -> Tensor:
            assert bool((routing.ids_TK >= 0).all())
            return x_TD * routing.gates_TK.sum(1, keepdim=True)

        return layer

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        return Cost(executed_rows=problem.N, workspace_bytes=0)


@pytest.mark.parametrize("held", [[2], [1, 3], [0, 1, 2, 3, 4]], ids=str)
@pytest.mark.parametrize("local", ["scatter", "grouped", "padded", "loop"])
def test_an_expert_twice_in_a_row_adds_up(held: list[int], local: str) -> None:
    """Tokens may have more routes to the experts of a rank than it has experts."""
    inputs = draw_inputs(PROBLEM, draw_weights(PROBLEM, seed=0, device=CPU), seed=1, device=CPU)
    ids_TK = torch.tensor([[2, 2, 2], [2, 1, 2], [3, 3, 1], [NO_ROUTE, 2, 2], [0, 4, 0], [NO_ROUTE] * 3]).int()
    gates_TK = inputs.routing.gates_TK.where(ids_TK != NO_ROUTE, torch.nan)
    number_E = local_numbers(torch.tensor(held), PROBLEM.E)
    there_TK = torch.where(torch.isin(ids_TK, torch.tensor(held)), ids_TK, NO_ROUTE)
    routing = Routing(ids_TK=there_TK, gates_TK=gates_TK, experts=PROBLEM.E)
    expected = reference(PROBLEM, dataclasses.replace(inputs, routing=routing))
    weights = inputs.weights.map(lambda tensor: tensor[held].clone().requires_grad_())
    x_TD, gates_TK = inputs.x_TD.requires_grad_(), gates_TK.requires_grad_()
    experts = LocalExperts(KERNELS.load(local), local_problem(PROBLEM, rows=6, experts=len(held)), CPU)
    y_TD = experts(x_TD, ids_TK, gates_TK, number_E, weights)
    found = torch.autograd.grad(y_TD, [x_TD, gates_TK, weights.w_up_EUD, weights.w_down_EDF], inputs.dy_TD)
    right = expected.gradients
    torch.testing.assert_close(y_TD.double(), expected.y_TD)
    for one, other in zip(found, (right["x"], right["gates"], right["w_up"][held], right["w_down"][held]), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)


def test_gate_weights_of_equal_experts_are_added_and_absent_ones_not_read() -> None:
    ids_Mk = torch.tensor([[1, 1, 0], [NO_ROUTE, 1, NO_ROUTE], [NO_ROUTE] * 3], dtype=torch.int32)
    gates_Mk = torch.tensor([[1.0, 2.0, 4.0], [torch.nan, 8.0, torch.nan], [torch.nan] * 3])
    ids_ME, gates_ME = by_expert(ids_Mk, gates_Mk, 2)
    assert ids_ME.tolist() == [[0, 1], [NO_ROUTE, 1], [NO_ROUTE, NO_ROUTE]]
    assert gates_ME.tolist() == [[4, 3], [0, 8], [0, 0]]


def test_an_implementation_that_reads_every_route_is_given_one_with_gate_zero() -> None:
    experts = LocalExperts(ReadsAll(), local_problem(PROBLEM, rows=2, experts=3), CPU)
    ids_TK = torch.tensor([[2, 4, NO_ROUTE], [4, 4, 0]], dtype=torch.int32)
    gates_TK = torch.tensor([[0.5, torch.nan, torch.nan], [1.0, 2.0, 0.25]])
    weights = draw_weights(PROBLEM.replace(E=3), seed=0, device=CPU)
    y_TD = experts(torch.ones(2, 8), ids_TK, gates_TK, local_numbers(torch.tensor([0, 1, 2]), 5), weights)
    assert y_TD[:, 0].tolist() == [0.5, 0.25]
