"""Guarantees of the Triton kernels: seen to hold bit for bit in configurations that differ in every order of sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moebench.execution.trial.observers.invariance import InvarianceObserver
from moebench.execution.trial.observers.observer import ObservedCall
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.module.moe_layer import MoELayer
from moebench.kernels.problem import Problem
from moebench.kernels.problem.tensors import draw_inputs, draw_weights
from moebench.results.record import Invariance

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PROBLEM = Problem(T=7, D=48, F=32, E=3, K=2)  # a step of the contraction is cut off at its end
CHOICES: list[tuple[str, Config]] = [
    ("triton_scatter", {}),
    ("triton_scatter", {"split_k": 4, "persistent": True, "scatter": True}),
    ("triton_scatter", {"gathered": False, "descriptors": False}),
    ("triton_block_sparse", {"split_k": 2}),
]


def observed(kernel_name: str, changes: Config, problem: Problem) -> Invariance:
    kernel = KERNELS.load(kernel_name)
    config = {**kernel.space(problem, DEVICE)[0], **changes}
    assert kernel.valid(problem, config, DEVICE)
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=DEVICE), seed=1, device=DEVICE)
    inputs = inputs.requires_grad_() if problem.mode == "train" else inputs
    found = InvarianceObserver().observe(
        ObservedCall(
            kernel=kernel,
            config=config,
            problem=problem,
            layer=kernel.build(problem, config, DEVICE),
            inputs=inputs,
            device=DEVICE,
        )
    )
    assert found is not None
    return found


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("kernel", "changes"), CHOICES)
def test_a_dropless_forward_has_the_same_bits_in_every_batch(kernel: str, changes: Config, dtype: str) -> None:
    found = observed(kernel, changes, PROBLEM.replace(dtype=dtype))
    assert set(found.properties) == {"repeat", "batch", "alone", "order"}
    assert all(one.guaranteed and one.same for one in found.properties.values()), found
    assert "added in their order" in found.reason


def test_another_configuration_has_other_bits() -> None:
    """Show that a configuration which is chosen by the number of tokens may change a token's bits."""
    problem, kernel = PROBLEM.replace(F=256), KERNELS.load("triton_scatter")
    default = kernel.space(problem, DEVICE)[0]
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=DEVICE), seed=1, device=DEVICE)
    results = []
    for splits in (1, 4):
        layer = kernel.build(problem, {**default, "split_k": splits}, DEVICE)
        results.append(layer(inputs.x_TD, inputs.routing, inputs.weights))
    assert not torch.equal(*results)
    torch.testing.assert_close(*results)


def test_a_training_step_too_and_its_gradients_when_it_is_repeated() -> None:
    found = observed("triton_scatter", {}, PROBLEM.replace(mode="train", T=3))
    assert all(one.guaranteed and one.same for one in found.properties.values()), found


def test_with_biases_gradients_are_not_guaranteed() -> None:
    problem = PROBLEM.replace(mode="train", bias=True)
    kernel = KERNELS.load("triton_scatter")
    guaranteed = kernel.guarantee(problem, kernel.space(problem, DEVICE)[0]).properties
    assert guaranteed == {"batch", "alone", "order"}


@pytest.mark.parametrize("kernel", ["triton_scatter", "triton_padded"])
def test_a_capacity_leaves_the_guarantee_of_a_repeated_call(kernel: str) -> None:
    found = observed(kernel, {}, PROBLEM.replace(capacity_factor=0.5, load="zipf:1"))
    assert {name for name, one in found.properties.items() if one.guaranteed} == {"repeat"}
    assert found.properties["repeat"].same
    assert found.properties["order"].beyond_rounding is not None


def products_depend_on_the_place() -> bool:
    """Return whether NumPy, which multiplies for Triton's interpreter, rounds a row by its place in a matrix."""
    rng = np.random.default_rng(0)
    rows, matrix = rng.standard_normal((64, 32), np.float32), rng.standard_normal((32, 64), np.float32)
    whole = rows @ matrix
    return any(not np.array_equal((np.roll(rows, -place, 0) @ matrix)[0], whole[place]) for place in range(64))


@pytest.mark.gpu
@pytest.mark.skipif(
    DEVICE.type == "cpu" and products_depend_on_the_place(), reason="this processor rounds a row by its place"
)
def test_a_layer_that_is_asked_for_it_gives_a_token_the_same_bits_in_every_batch_and_mode() -> None:
    generator = torch.Generator().manual_seed(3)
    layer = MoELayer(D=32, F=32, E=3, dispatch="triton_scatter", batch_invariant=True, device=DEVICE)
    x_TD = torch.randn(9, 32, generator=generator).to(DEVICE)
    gates_TK, ids_TK = torch.rand(9, 3, generator=generator).topk(2)
    ids_TK, gates_TK = ids_TK.to(DEVICE), gates_TK.to(DEVICE)
    trained_TD = layer(x_TD, ids_TK, gates_TK)
    assert trained_TD.requires_grad
    with torch.no_grad():
        for some in (slice(0, 9), slice(0, 5), slice(4, 9), slice(8, 9), torch.randperm(9)):
            again = layer(x_TD[some], ids_TK[some], gates_TK[some])
            assert torch.equal(again, trained_TD.detach()[some])


def test_a_layer_with_a_capacity_cannot_be_asked_for_it() -> None:
    with pytest.raises(ValueError, match=r"capacity_factor = 1\.0 the other tokens .* give one of the two"):
        MoELayer(D=32, F=32, E=3, capacity_factor=1.0, batch_invariant=True)
