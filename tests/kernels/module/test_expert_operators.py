"""The custom operators hold to what torch asks of them, and compute what kernels compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, library

from moebench.execution.trial.checks.accuracy import errors, verdict
from moebench.kernels.module import expert_operators
from moebench.kernels.module.expert_operators import ExpertsCall
from moebench.kernels.oracle import Result, oracle
from moebench.kernels.problem import Problem
from moebench.kernels.problem.tensors import Inputs, draw_inputs, draw_weights
from moebench.kernels.triton.launch import recording

CPU = torch.device("cpu")
TRAIN = Problem(T=7, D=16, F=8, E=4, K=2, mode="train")
VARIANTS: list[dict[str, object]] = [
    {},
    {"bias": True},
    {"gated": False, "activation": "relu2"},
    {"dtype": "bfloat16", "bias": True},
    {"dtype": "float16", "activation": "situ"},
    {"capacity_factor": 0.75, "drop": "gate_weight"},
    {"T": 1},
    {"T": 0},
    {"load": "hot", "E": 5, "K": 3, "D": 24, "F": 40},
]


def drawn(changes: dict[str, object]) -> tuple[Problem, Inputs]:
    problem = TRAIN.replace(**changes)
    weights = draw_weights(problem, seed=1, device=CPU)
    return problem, draw_inputs(problem, weights, seed=2, device=CPU)


def arguments(problem: Problem, inputs: Inputs, dispatch: str = "auto") -> tuple[Any, ...]:
    weights, routing = inputs.weights, inputs.routing
    return (
        inputs.x_TD, routing.ids_TK, routing.gates_TK, weights.w_up_EUD, weights.w_down_EDF, weights.b_up_EU,
        weights.b_down_ED, problem.activation, problem.capacity_factor, problem.drop, problem.capacity_rule, dispatch,
        False,
    )  # fmt: skip


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("keeping", [True, False], ids=["kept", "computed again"])
def test_results_and_gradients_are_the_oracles(changes: dict[str, object], keeping: bool) -> None:
    problem, inputs = drawn(changes)
    inputs = inputs.requires_grad_()
    given = arguments(problem, inputs, "auto" if keeping else "grouped" if problem.capacity is None else "padded")
    y_TD = expert_operators.experts_keeping(*given)[0] if keeping else expert_operators.experts(*given)
    wanted = inputs.differentiable()
    gradients = torch.autograd.grad(y_TD, list(wanted.values()), inputs.dy_TD)
    found = Result(y_TD=y_TD.detach(), gradients=dict(zip(wanted, gradients, strict=True)))
    assert verdict(errors(found, oracle(problem, inputs)), problem.rounding) is None


def test_every_operator_passes_opcheck() -> None:
    check(*drawn({"bias": True}))


@pytest.mark.exhaustive
@pytest.mark.parametrize("changes", [one for one in VARIANTS if one.get("T") != 0], ids=str)
def test_every_operator_passes_opcheck_for_every_variant(changes: dict[str, object]) -> None:
    check(*drawn(changes))


def check(problem: Problem, inputs: Inputs) -> None:
    fixed = arguments(problem, inputs)
    y_TD, h_NU = expert_operators.experts_keeping(*fixed)
    dy_TD = torch.ones_like(y_TD)
    for kept in (h_NU, None):
        wanted = [True, kept is None, True, True, problem.bias, problem.bias]
        library.opcheck(expert_operators.experts_backward, (*fixed, dy_TD, kept, wanted))
    given = arguments(problem, inputs.requires_grad_())
    library.opcheck(expert_operators.experts, given)
    if problem.capacity is None:  # the rows of dropped routes hold anything
        library.opcheck(expert_operators.experts_keeping, given)


def test_only_what_is_wanted_is_returned() -> None:
    problem, inputs = drawn({"bias": True})
    fixed = arguments(problem, inputs)
    everything = expert_operators.experts_backward(*fixed, inputs.dy_TD, None, [True] * 6)
    some = expert_operators.experts_backward(*fixed, inputs.dy_TD, None, [False, True, False, True, False, True])
    assert all(torch.equal(one, other) for one, other in zip(some, everything[1::2], strict=True))


def test_frozen_weights_get_no_gradient() -> None:
    problem, inputs = drawn({})
    inputs.x_TD.requires_grad_()
    y_TD, _ = expert_operators.experts_keeping(*arguments(problem, inputs))
    y_TD.sum().backward()
    assert inputs.x_TD.grad is not None
    assert inputs.weights.w_up_EUD.grad is None


def test_a_second_derivative_is_refused() -> None:
    problem, inputs = drawn({})
    x_TD = inputs.x_TD.requires_grad_()
    y_TD = expert_operators.experts(*arguments(problem, inputs))
    (dx_TD,) = torch.autograd.grad((y_TD * x_TD).sum(), x_TD, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative: differentiate twice in float64"):
        torch.autograd.grad(dx_TD.square().sum(), x_TD)


@pytest.mark.parametrize("changes", [{}, {"bias": True, "dtype": "bfloat16"}, {"capacity_factor": 0.75}], ids=str)
def test_what_a_gpu_would_run_has_the_shapes_of_the_graph(changes: dict[str, object]) -> None:
    """Record the launches of the kernel for both passes, and compare its results with those that a graph expects."""
    problem, inputs = drawn(changes)
    given = arguments(problem, inputs, "triton_scatter")
    fixed: list[Any] = [one.to("meta") if isinstance(one, Tensor) else one for one in given]
    y_TD, h_NU = expert_operators.experts_keeping(*fixed)
    wanted = [True, True, True, True, problem.bias, problem.bias]
    gradients = expert_operators.experts_backward(*fixed, torch.empty_like(y_TD), h_NU, wanted)
    with recording() as launches:
        layer, routing = ExpertsCall.of(*fixed).split()
        weights = inputs.weights.map(lambda one: one.to("meta"))
        assert described(layer.keep(fixed[0], routing, weights, h_NU)) == described(y_TD)
        found = layer.backward(y_TD, fixed[0], routing, weights, h_NU, wanted)
    assert [described(one) for one in found if one is not None] == [described(one) for one in gradients]
    assert {"up", "down", "down_backward", "weight_gradient"} <= {one.name for one in launches}


def described(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.device
