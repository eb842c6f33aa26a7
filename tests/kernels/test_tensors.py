"""Inputs are what the problem says, the same for the same seed, and copies share nothing with their original."""

from __future__ import annotations

import pytest
import torch

from moebench.kernels.problem import Problem
from moebench.kernels.shard import Shard
from moebench.kernels.tensors import BIAS_SCALE, Inputs, draw_inputs, draw_weights

CPU = torch.device("cpu")
PLAIN = Problem(T=7, D=64, F=48, E=5, K=2, ranks=3)
BIASED = PLAIN.replace(bias=True)
either = pytest.mark.parametrize("problem", [PLAIN, BIASED], ids=["plain", "biased"])


def draw(problem: Problem) -> Inputs:
    return draw_inputs(problem, draw_weights(problem, seed=3, device=CPU), seed=4, device=CPU)


def test_biases_are_there_exactly_when_the_problem_has_them() -> None:
    plain, biased = draw(PLAIN), draw(BIASED)
    assert list(plain.differentiable()) == ["x", "w_up", "w_down", "gates"]
    assert list(biased.differentiable()) == ["x", "w_up", "w_down", "b_up", "b_down", "gates"]
    assert plain.weights.b_up_EU is plain.weights.b_down_ED is None
    shapes = {name: tuple(tensor.shape) for name, tensor in biased.weights.named().items()}
    assert shapes == {"w_up": (5, 96, 64), "w_down": (5, 64, 48), "b_up": (5, 96), "b_down": (5, 64)}


def test_biases_change_no_other_draw() -> None:
    plain, biased = draw(PLAIN), draw(BIASED)
    for name, tensor in plain.differentiable().items():
        assert torch.equal(tensor, biased.differentiable()[name]), name


def test_biases_are_large_enough_to_be_missed() -> None:
    weights = draw(BIASED).weights
    for bias in (weights.b_up_EU, weights.b_down_ED):
        assert bias is not None
        assert float(bias.std()) == pytest.approx(BIAS_SCALE, rel=0.2)


@either
def test_weights_have_the_problems_dtype_and_bytes(problem: Problem) -> None:
    tensors = draw_weights(problem.replace(dtype="bfloat16"), seed=0, device=CPU).named().values()
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}
    assert sum(tensor.nbytes for tensor in tensors) == problem.replace(dtype="bfloat16").weight_bytes


@either
def test_map_changes_every_tensor_and_no_name(problem: Problem) -> None:
    weights = draw(problem).weights
    doubled = weights.map(torch.Tensor.double)
    assert list(doubled.named()) == list(weights.named())
    for name, tensor in doubled.named().items():
        assert tensor.dtype == torch.float64
        assert torch.equal(tensor, weights.named()[name].double())


@either
def test_a_clone_is_equal_and_shares_nothing(problem: Problem) -> None:
    inputs = draw(problem).requires_grad_()
    copy = inputs.clone()
    for name, tensor in inputs.differentiable().items():
        other = copy.differentiable()[name]
        assert torch.equal(tensor, other), name
        assert tensor.data_ptr() != other.data_ptr(), name
        assert not other.requires_grad


@either
def test_shards_of_all_ranks_put_together_are_the_inputs(problem: Problem) -> None:
    inputs = draw(problem)
    parts = [inputs.shard(Shard.of(problem, rank)).differentiable() for rank in range(problem.ranks)]
    for name, tensor in inputs.differentiable().items():
        assert torch.equal(torch.cat([part[name] for part in parts]), tensor), name
