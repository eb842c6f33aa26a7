"""The layer on the grouped product: awkward shapes, tensors kept for backward, and no wait for the device.

The common tests of all implementations, tests/kernels/implementations/test_implementations.py, hold for it too.
"""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
import torch
from exhaustive import all_but
from torch import Tensor

from moebench.execution.trial.checks.accuracy import errors, verdict
from moebench.execution.trial.reference_check import call
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.implementations._triton import TritonKernel, runs_on
from moebench.kernels.oracle import reference
from moebench.kernels.problem import DropPolicy, Problem
from moebench.kernels.problem.routing import Routing
from moebench.kernels.problem.tensors import TORCH_DTYPES, Inputs, Weights, draw_inputs, draw_weights
from moebench.kernels.triton.launch import recording
from moebench.kernels.triton.tiles import PRODUCTS, Tiles
from moebench.results.timing.memory import count_saved

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
META = torch.device("meta")
NAMES = [name for name in KERNELS.names() if isinstance(KERNELS.load(name), TritonKernel)]
BASE = Problem(T=64, D=32, F=32, E=4, K=1, mode="train", router="softmax_topk")

pytestmark = pytest.mark.skipif(runs_on(DEVICE) is not None, reason=str(runs_on(DEVICE)))


def fitting(name: str, problem: Problem) -> Problem:
    """Return the problem as an implementation takes it: `triton_padded` needs a capacity, which drops nothing here."""
    if KERNELS.load(name).supports(problem, DEVICE) is None:
        return problem
    return problem.replace(capacity_factor=float(problem.E))


def draw(problem: Problem) -> Inputs:
    return draw_inputs(problem, draw_weights(problem, seed=0, device=DEVICE), seed=1, device=DEVICE)


def assert_right(name: str, problem: Problem, inputs: Inputs, config: Config | None = None) -> None:
    kernel = KERNELS.load(name)
    assert kernel.supports(problem, DEVICE) is None
    layer = kernel.build(problem, config or kernel.space(problem, DEVICE)[0], DEVICE)
    expected = reference(problem, inputs)
    assert verdict(errors(call(problem, layer, inputs.requires_grad_()), expected), problem.dtype) is None


def with_counts(problem: Problem, counts: list[int]) -> Inputs:
    """Draw inputs whose experts receive exactly these numbers of rows, in a shuffled order."""
    ids_N = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    ids_N = ids_N[torch.randperm(len(ids_N), generator=torch.Generator().manual_seed(0))]
    drawn = draw(problem)
    ids_TK = ids_N.view(problem.T, problem.K).to(DEVICE, torch.int32)
    return dataclasses.replace(drawn, routing=dataclasses.replace(drawn.routing, ids_TK=ids_TK))


@pytest.mark.parametrize("block", all_but([16], [16, 32, 64]))
@pytest.mark.parametrize("name", NAMES)
def test_counts_around_a_tile(name: str, block: int) -> None:
    """Experts have none, 1, B - 1, B and B + 1 rows, and no tile divides the sum."""
    counts = [1, block - 1, 0, block, block + 1]
    problem = fitting(name, BASE.replace(T=sum(counts), E=5, F=64, dtype="float16"))
    space = KERNELS.load(name).space(problem, DEVICE)
    tiles = Tiles.of(space[0])
    low = {product: str(dataclasses.replace(getattr(tiles, product), rows=block)) for product in PRODUCTS}
    config = {**space[0], **low}
    assert KERNELS.load(name).valid(problem, config, DEVICE)
    assert_right(name, problem, with_counts(problem, counts), config)


@pytest.mark.parametrize("E", all_but([1, 3], [1, 3, 129]))
@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_experts(name: str, E: int) -> None:
    assert_right(name, (problem := fitting(name, BASE.replace(T=40, E=E, K=min(E, 2)))), draw(problem))


@pytest.mark.parametrize("DF", all_but([(100, 600)], [(100, 600), (704, 100), (600, 704)]), ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_widths_that_no_tile_divides(name: str, DF: tuple[int, int]) -> None:
    """A width is supported, or refused by a message that names it."""
    D, F = DF
    problem = fitting(name, BASE.replace(T=9, D=D, F=F, E=2))
    refusal = KERNELS.load(name).supports(problem, DEVICE)
    if refusal:
        assert f"F = {F}" in refusal or f"D = {D}" in refusal
    else:
        assert_right(name, problem, draw(problem))


@pytest.mark.parametrize("name", NAMES)
def test_ids_out_of_range_are_no_routes(name: str) -> None:
    """Nothing is read or written out of bounds: the result is the same as with −1 in their place."""
    problem = fitting(name, BASE.replace(K=2))
    inputs = draw(problem)
    wild_TK, missing_TK = inputs.routing.ids_TK.clone(), inputs.routing.ids_TK.clone()
    wild_TK[::3, 0], missing_TK[::3, 0] = problem.E, -1
    wild_TK[1::3, 1], missing_TK[1::3, 1] = torch.iinfo(torch.int32).max, -1
    wild_TK[2::3, 1], missing_TK[2::3, 1] = -7, -1
    kernel = KERNELS.load(name)
    layer = kernel.build(problem, kernel.space(problem, DEVICE)[0], DEVICE)
    inputs.requires_grad_()
    wild, missing = (
        call(problem, layer, dataclasses.replace(inputs, routing=dataclasses.replace(inputs.routing, ids_TK=ids_TK)))
        for ids_TK in (wild_TK, missing_TK)
    )
    assert torch.equal(wild.y_TD, missing.y_TD)
    for leaf, gradient in wild.gradients.items():
        assert torch.equal(gradient, missing.gradients[leaf]), leaf


def far_apart(tensor: Tensor) -> Tensor:
    """Spread rows or experts over more than 2^31 elements; the memory between them is never touched."""
    stride = -(-(1 << 31) // (tensor.shape[0] - 1)) + 64
    shared = tensor.new_empty((tensor.shape[0] - 1) * stride + tensor[0].numel())
    return shared.as_strided(tensor.shape, (stride, *tensor.stride()[1:])).copy_(tensor)


@pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU allocates memory before it is touched")
@pytest.mark.parametrize("descriptors", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_offsets_beyond_32_bits(name: str, descriptors: bool) -> None:
    problem = fitting(name, BASE.replace(T=36, E=3, K=2, dtype="float16"))
    space = KERNELS.load(name).space(problem, DEVICE)
    config = next(config for config in space if config["descriptors"] is descriptors)
    near = draw(problem)
    weights = Weights(w_up_EUD=far_apart(near.weights.w_up_EUD), w_down_EDF=far_apart(near.weights.w_down_EDF))
    dy_TD = far_apart(near.everything()["dy"])
    inputs = dataclasses.replace(near, x_TD=far_apart(near.x_TD), dy_TD=dy_TD, weights=weights)
    layer = KERNELS.load(name).build(problem, config, DEVICE)
    found = call(problem, layer, inputs.requires_grad_())
    assert verdict(errors(found, reference(problem, near)), problem.dtype) is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("gated", [True, False])
def test_scatter_keeps_the_tokens_and_the_pre_activations(gated: bool, dtype: str) -> None:
    """The layer keeps T * D + N * U elements, and besides them only integers: SonicMoE's bound (Guo et al. 2025)."""
    problem = BASE.replace(T=96, D=48, F=64, K=2, gated=gated, dtype=dtype)
    kernel = KERNELS.load("triton_scatter")
    layer = kernel.build(problem, kernel.space(problem, DEVICE)[0], DEVICE)
    inputs = draw(problem).requires_grad_()
    weights = inputs.weights.named().values()
    with count_saved(without=tuple(weights)) as saved:
        layer(inputs.x_TD, inputs.routing, inputs.weights)
    element = TORCH_DTYPES[dtype].itemsize
    gates = problem.N * 4
    assert saved.bytes - gates == (problem.T * problem.D + problem.N * problem.U) * element


def on_meta(problem: Problem) -> tuple[Tensor, Routing, Weights]:
    """Return tensors without memory: reading a value is an error, and so is waiting for it."""

    def empty(*shape: int, dtype: torch.dtype = TORCH_DTYPES[problem.dtype]) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=META, requires_grad=dtype.is_floating_point)

    routing = Routing(
        ids_TK=empty(problem.T, problem.K, dtype=torch.int32),
        gates_TK=empty(problem.T, problem.K, dtype=torch.float32),
        experts=problem.E,
    )
    weights = Weights(
        w_up_EUD=empty(problem.E, problem.U, problem.D),
        w_down_EDF=empty(problem.E, problem.D, problem.F),
        b_up_EU=empty(problem.E, problem.U),
        b_down_ED=empty(problem.E, problem.D),
    )
    return empty(problem.T, problem.D), routing, weights


@pytest.mark.parametrize("drop", get_args(DropPolicy))
@pytest.mark.parametrize("name", NAMES)
def test_a_layer_never_waits_for_the_device(name: str, drop: DropPolicy) -> None:
    """Forward and backward run on tensors that have no values to wait for, at the size of a large model."""
    problem = Problem(T=4096, D=7168, F=2048, E=256, K=8, dtype="bfloat16", mode="train", bias=True, drop=drop)
    kernel = KERNELS.load(name)
    if kernel.supports(problem, META) is not None:
        problem = problem.replace(capacity_factor=1.0)
    x_TD, routing, weights = on_meta(problem)
    with recording() as launches:
        y_TD = kernel.build(problem, kernel.space(problem, META)[0], META)(x_TD, routing, weights)
        y_TD.backward(torch.empty_like(y_TD))
    assert y_TD.shape == x_TD.shape
    assert x_TD.grad is not None
    assert all(launch.programs > 0 for launch in launches)


@pytest.mark.parametrize("name", NAMES)
def test_a_cpu_without_the_interpreter_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = fitting(name, BASE)
    monkeypatch.setattr("moebench.kernels.implementations._triton.INTERPRETED", False)
    assert "cpu" in str(KERNELS.load(name).supports(problem, torch.device("cpu")))
