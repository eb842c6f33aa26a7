"""Inputs have the shapes of the problem, are the same for the same seed, and copies share no memory."""

from __future__ import annotations

import pytest
import torch

from moebench.kernels.problem import Problem
from moebench.kernels.problem.shard import Shard
from moebench.kernels.problem.tensors import BIAS_SCALE, Inputs, draw_inputs, draw_weights, quantise, without_values

CPU = torch.device("cpu")
PLAIN = Problem(T=7, D=64, F=48, E=5, K=2, ranks=3)
BIASED = PLAIN.replace(bias=True)
QUANTISED = BIASED.replace(dtype="float8_e4m3fn")
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


def test_quantised_weights_have_scales_and_no_gradients() -> None:
    inputs = draw(QUANTISED)
    found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in inputs.tensors().items()}
    assert found == {
        "x": (torch.bfloat16, (7, 64)),
        "w_up": (torch.float8_e4m3fn, (5, 96, 64)),
        "w_down": (torch.float8_e4m3fn, (5, 64, 48)),
        "b_up": (torch.bfloat16, (5, 96)),
        "b_down": (torch.bfloat16, (5, 64)),
        "s_up": (torch.float32, (5, 96)),
        "s_down": (torch.float32, (5, 64)),
        "gates": (torch.float32, (7, 2)),
    }
    assert list(inputs.differentiable()) == ["x", "b_up", "b_down", "gates"]
    assert sum(tensor.nbytes for tensor in inputs.weights.named().values()) == QUANTISED.weight_bytes


def test_quantised_weights_are_near_the_ones_drawn_without_scales() -> None:
    plain = draw_weights(PLAIN, seed=3, device=CPU)
    weights = draw_weights(PLAIN.replace(dtype="float8_e4m3fn"), seed=3, device=CPU)
    assert weights.s_up_EU is not None
    assert weights.s_down_ED is not None
    for true, rounded, scales in (
        (plain.w_up_EUD, weights.w_up_EUD, weights.s_up_EU),
        (plain.w_down_EDF, weights.w_down_EDF, weights.s_down_ED),
    ):
        wrong = (rounded.float() * scales[..., None] - true).abs()
        smallest = scales[..., None] * 2**-10  # half of the step between the least values
        assert bool((wrong <= true.abs() * 2**-4 * 1.001 + smallest).all())
        assert float(rounded.float().abs().amax(-1).min()) == 448, "every row takes the whole range"


def test_quantised_inputs_are_cloned_and_sharded_with_their_scales() -> None:
    inputs = draw(QUANTISED)
    copy = inputs.clone()
    parts = [inputs.shard(Shard.of(QUANTISED, rank)).tensors() for rank in range(QUANTISED.ranks)]
    for name, tensor in inputs.tensors().items():
        assert torch.equal(copy.tensors()[name].float(), tensor.float()), name
        assert copy.tensors()[name].data_ptr() != tensor.data_ptr(), name
        assert torch.equal(torch.cat([part[name] for part in parts]).float(), tensor.float()), name


def test_rows_of_zeros_are_quantised_to_zeros() -> None:
    values, scales = quantise(torch.zeros(3, 8))
    assert not values.float().any()
    assert bool((scales > 0).all())


@pytest.mark.parametrize(
    "problem",
    [PLAIN, BIASED, QUANTISED, PLAIN.replace(dtype="bfloat16", mode="train")],
    ids=["plain", "biased", "quantised", "bf16 train"],
)
def test_tensors_without_values_are_those_with_them_but_for_the_values(problem: Problem) -> None:
    real, without = draw(problem), without_values(problem)

    def forms(inputs: Inputs) -> dict[str, tuple[torch.Size, torch.dtype]]:
        return {name: (tensor.shape, tensor.dtype) for name, tensor in inputs.everything().items()}

    assert forms(without) == forms(real)
    assert {tensor.device.type for tensor in without.tensors().values()} == {"meta"}
    assert without.routing.experts == problem.E
