"""Every block, found by name: its truth against loops over tokens, and every kernel with it against its truth.

A new block is tested by being in the folder, once `plain_blocks` has its loops and `CASES` its awkward problems.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from plain_blocks import ORACLES
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from moebench.execution.trial.checks.accuracy import errors, verdict
from moebench.execution.trial.reference_check import call
from moebench.kernels.block_kernel import competing
from moebench.kernels.block_oracle import true_layer, true_layer_bytes
from moebench.kernels.catalog import KERNELS
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.implementations._triton import TritonKernel
from moebench.kernels.oracle import drop
from moebench.kernels.problem import InvalidProblem, Problem
from moebench.kernels.problem.block import BLOCKS, Block
from moebench.kernels.problem.tensors import Inputs, draw_inputs, draw_weights, without_values
from moebench.kernels.torch_ops.activations import activate
from moebench.results.timing.memory import peak

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BASE = Problem(T=13, D=16, F=8, E=4, K=2, mode="train")
LINEAR = BASE.replace(gated=False, activation="identity")
ANY_EXPERTS: list[dict[str, object]] = [
    {},
    {"T": 1},
    {"T": 0},
    {"E": 1, "K": 1},
    {"K": 4},
    {"load": "empty:0.5"},
    {"router": "sigmoid_topk:zero_experts=4"},
    {"capacity_factor": 0.5, "load": "zipf:1.5"},
    {"bias": True},
]
"""One token, none, one expert, all of them, experts without tokens, absent routes, dropped tokens, biases."""


def around(block: str, problem: Problem = BASE, *more: dict[str, object]) -> list[Problem]:
    return [problem.replace(**{"block": block, **changes}) for changes in (*ANY_EXPERTS, *more)]


def projections(block: str, *more: dict[str, object]) -> list[Problem]:
    """Return sequences that the tokens fill, that they do not, one token, none, and absent routes."""
    absent = "sigmoid_topk:renormalise=false,zero_experts=4"
    one: dict[str, object] = {"T": 1, "mode": "forward"}
    shared: list[dict[str, object]] = [{}, {"T": 10}, {"T": 0}, one, {"router": absent}, {"load": "hot"}]
    return [LINEAR.replace(**{"block": block, **changes}) for changes in (*shared, *more)]


CASES: dict[str, list[Problem]] = {
    "shared": [
        *around("shared:width=24,sigmoid=true", BASE, {"gated": False, "activation": "relu"}),
        BASE.replace(block="shared"),
    ],
    "residual_mlp": around("residual_mlp:width=24", BASE, {"gated": False, "activation": "gelu"}),
    "lora": around("lora", LINEAR, {"F": 4}),
    "latent": around(
        "latent:width=8,shared=24", BASE, {"D": 40, "block": "latent"}, {"gated": False, "activation": "relu2"}
    ),
    "soft_moe": [
        BASE.replace(**{"K": 1, "block": "soft_moe:slots=3,length=5", **changes})
        for changes in (
            {},
            {"T": 1},
            {"T": 0},
            {"E": 1},
            {"T": 10},
            {"block": "soft_moe"},
            {"block": "soft_moe:slots=2,length=64,scale=8"},
            {"bias": True},
        )
    ],
    "moa": projections("moa:length=5", {"E": 1, "K": 1}, {"K": 4}, {"block": "moa"}),
    "switchhead": projections(
        "switchhead:length=5", {"E": 2, "K": 1}, {"block": "switchhead:heads=1,length=5", "E": 3}
    ),
}
EVERY = [problem for problems in CASES.values() for problem in problems]
MAIN = [problems[0] for problems in CASES.values()]
INTERPRETED = DEVICE.type == "cpu"


def key(value: object) -> str | None:
    return value.key if isinstance(value, Problem) else None


def draw(problem: Problem, seed: int = 1) -> Inputs:
    return draw_inputs(problem, draw_weights(problem, seed=0, device=DEVICE), seed=seed, device=DEVICE)


def test_every_block_has_cases_and_a_plain_oracle() -> None:
    assert sorted(CASES) == sorted(ORACLES) == BLOCKS.names()
    assert {problem.block.partition(":")[0] for problem in EVERY} == set(CASES)


@pytest.mark.parametrize("problem", EVERY, ids=key)
def test_the_truth_is_what_loops_over_tokens_compute(problem: Problem) -> None:
    inputs = draw(problem)
    found = true_layer(problem, inputs)
    leaves = {name: tensor.double().requires_grad_() for name, tensor in inputs.tensors().items()}
    rows = ORACLES[problem.block.partition(":")[0]](problem, leaves, drop(problem, inputs.routing).ids_TK.tolist())
    y_TD = torch.stack(rows) if rows else leaves["x"] * 0
    torch.testing.assert_close(found.y_TD, y_TD.detach(), rtol=1e-9, atol=1e-12)
    if inputs.dy_TD is None:
        return
    expected = torch.autograd.grad(
        y_TD, list(leaves.values()), inputs.dy_TD.double(), allow_unused=True, materialize_grads=True
    )
    assert set(found.gradients) == set(leaves)
    for name, gradient in zip(leaves, expected, strict=True):
        torch.testing.assert_close(found.gradients[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("problem", MAIN, ids=key)
def test_gradients_of_the_truth_are_slopes(problem: Problem) -> None:
    """A small step along any tensor changes the result by what its gradient says, to the square of the step."""
    step, drawn = 1e-5, draw(problem)
    inputs = dataclasses.replace(drawn, x_TD=drawn.x_TD.double(), weights=drawn.weights.map(torch.Tensor.double))
    gradients = true_layer(problem, inputs).gradients
    generator = torch.Generator(DEVICE).manual_seed(2)
    for name, tensor in {"x": inputs.x_TD, **inputs.weights.named()}.items():
        way = torch.randn(tensor.shape, generator=generator, device=DEVICE, dtype=torch.float64)
        ahead, behind = (true_layer(problem, moved(inputs, name, sign * step * way)).y_TD for sign in (1, -1))
        slope = ((ahead - behind) * drawn.everything()["dy"]).sum() / (2 * step)
        torch.testing.assert_close((gradients[name] * way).sum(), slope, rtol=1e-6, atol=1e-7, msg=name)


def moved(inputs: Inputs, name: str, by: Tensor) -> Inputs:
    """Return inputs of which one tensor is another, for a forward alone."""
    if name == "x":
        return dataclasses.replace(inputs, x_TD=inputs.x_TD + by, dy_TD=None)
    tensors = iter(inputs.weights.named())
    weights = inputs.weights.map(lambda tensor: tensor + by if next(tensors) == name else tensor)
    return dataclasses.replace(inputs, weights=weights, dy_TD=None)


def assert_right(name: str, problem: Problem) -> None:
    kernel, inputs = competing(name, problem), draw(problem)
    expected = true_layer(problem, inputs)
    layer = kernel.build(problem, kernel.space(problem, DEVICE)[0], DEVICE)
    if problem.mode == "train":
        inputs.requires_grad_()
    assert verdict(errors(call(problem, layer, inputs), expected), problem.rounding) is None


def supported(problems: list[Problem], *, triton: bool) -> Iterator[Any]:
    for name in KERNELS.names():
        if isinstance(KERNELS.load(name), TritonKernel) is triton:
            for problem in problems:
                if competing(name, problem).supports(problem, DEVICE) is None:
                    yield pytest.param(name, problem, id=f"{name}-{problem.key}")


@pytest.mark.parametrize(("name", "problem"), list(supported(EVERY, triton=not INTERPRETED)))
def test_every_kernel_with_a_block_is_right(name: str, problem: Problem) -> None:
    """Outputs and all gradients, those of the block's own tensors included."""
    assert_right(name, problem)
    assert_right(name, problem.replace(mode="forward"))


@pytest.mark.parametrize(("name", "problem"), list(supported(MAIN, triton=True)))
def test_kernels_in_triton_with_a_block_are_right(name: str, problem: Problem) -> None:
    assert_right(name, problem)


@pytest.mark.parametrize("problem", MAIN, ids=key)
def test_no_block_waits_for_the_device(problem: Problem) -> None:
    """On tensors without values a call that reads one raises, forward or backward: a CUDA graph could not hold it."""
    pytest.importorskip("triton")
    from moebench.kernels.compiler.compile import META, Target, launches  # noqa: PLC0415  # imports triton

    kernel, target = competing("triton_scatter", problem), Target.named("sm_90")
    with assuming(target.hardware):
        config = kernel.space(problem, META)[0]
    names = [launch.name for launch in launches(kernel, problem, config, target)]
    assert {"up", "weight_gradient"} <= set(names)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("problem", MAIN, ids=key)
def test_sixteen_bits_are_within_their_bounds(problem: Problem, dtype: str) -> None:
    assert_right("loop", problem.replace(dtype=dtype, T=64))


@pytest.mark.parametrize("problem", MAIN, ids=key)
def test_own_tensors_are_inputs_like_all_others(problem: Problem) -> None:
    """Own tensors have the shapes and bytes that are said, and are among what is checked, copied, differentiated."""
    block = Block.parse(problem.block)
    inputs, planned = draw(problem), without_values(problem)
    assert {name: tuple(t.shape) for name, t in inputs.weights.own.items()} == block.shapes(problem)
    assert {n: t.shape for n, t in inputs.everything().items()} == {n: t.shape for n, t in planned.everything().items()}
    assert set(block.shapes(problem)) <= set(inputs.differentiable())
    assert problem.weight_bytes == sum(t.numel() * t.element_size() for t in inputs.weights.named().values())
    held = sum(t.numel() * t.element_size() for t in inputs.everything().values())
    assert problem.input_bytes == held
    assert set(block.shapes(problem)).isdisjoint(inputs.weights.of_experts().named())


def of_attention(problem: Problem) -> int:
    """Return the FLOPs of scores and means: of every token those of its sequence up to it, once for each head."""
    heads = {"moa": problem.K, "switchhead": 2}.get(problem.block.partition(":")[0], 0)
    pairs = sum(t % 5 + 1 for t in range(problem.T))
    return (3 if problem.mode == "train" else 1) * heads * 4 * problem.F * pairs


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("problem", MAIN, ids=key)
def test_useful_flops_are_those_that_torch_counts(problem: Problem, mode: str) -> None:
    """The loop multiplies nothing twice; torch counts products alone, and attention as if it were not causal."""
    problem = problem.replace(mode=mode, T=90, D=64)
    kernel, inputs = competing("loop", problem), draw(problem)
    if mode == "train":
        inputs.requires_grad_()
    layer = kernel.build(problem, {}, DEVICE)
    with FlopCounterMode(display=False) as counted:
        call(problem, layer, inputs)
    rows = int(inputs.routing.counts_E().sum())
    found = sum(n for operator, n in counted.get_flop_counts()["Global"].items() if "attention" not in str(operator))
    assert found == pytest.approx(problem.flops(rows) - of_attention(problem), rel=0.01)


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("problem", MAIN, ids=key)
def test_memory_is_predicted(problem: Problem, mode: str) -> None:
    """Memory of a call is predicted between half and four times, that of the truth between two thirds and twice."""
    problem = problem.replace(mode=mode, T=512, D=128, F=64)
    kernel, inputs = competing("loop", problem), draw(problem)
    _, of_truth = peak(lambda: true_layer(problem, inputs), DEVICE)
    assert of_truth / 1.5 <= true_layer_bytes(problem) <= 2 * of_truth
    if mode == "train":
        inputs.requires_grad_()
    layer = kernel.build(problem, {}, DEVICE)
    call(problem, layer, inputs)
    _, measured = peak(lambda: call(problem, layer, inputs), DEVICE)
    workspace = measured - problem.output_bytes
    assert 0.5 * workspace <= kernel.cost(problem, {}, inputs.routing).workspace_bytes <= 4 * workspace


@pytest.mark.parametrize("problem", MAIN, ids=key)
def test_a_block_is_a_suffix_of_the_key_in_its_canonical_text(problem: Problem) -> None:
    assert problem.key.endswith(f".block-{problem.block}")
    assert problem.replace(block="").key == problem.key.partition(".block-")[0]
    assert Problem(**{**vars(problem), "block": Block.parse(problem.block).spec}) == problem


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block": "nothing"}, "`moebench list blocks` shows all"),
        ({"block": "shared:depth=2"}, "its form is shared:width=0,sigmoid=false"),
        ({"block": "shared:width=-1"}, "from 0 to"),
        ({"block": "lora"}, "activation = 'identity'"),
        ({"block": "shared", "ranks": 2}, "ranks = 1"),
        ({"block": "soft_moe"}, "K = 1"),
        ({"block": "moa"}, "activation = 'identity'"),
        ({"block": "moa", "gated": False, "activation": "identity", "bias": True}, "bias = False"),
        ({"block": "moa", "gated": False, "activation": "identity", "T": 1}, "queries have no gradient"),
        ({"block": "switchhead:heads=3"}, "multiple of heads"),
        ({"block": "switchhead", "K": 3}, "smaller K than 3"),
        ({"block": "soft_moe", "K": 1, "capacity_factor": 1.0}, "leave out capacity_factor"),
        ({"block": "soft_moe", "K": 1, "load": "hot"}, "load = 'uniform'"),
    ],
)
def test_a_block_that_cannot_be_is_refused_in_words(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidProblem, match=words):
        BASE.replace(**changes)


@pytest.mark.parametrize("name", KERNELS.names())
def test_a_kernel_without_the_block_around_it_refuses(name: str) -> None:
    """A kernel that is built for such a problem without the block would be another layer."""
    problem = BASE.replace(block="shared")
    assert KERNELS.load(name).supports(problem, DEVICE) is not None


def test_a_kernel_that_sums_over_the_experts_of_a_token_refuses_projections() -> None:
    problem = CASES["moa"][0]
    assert competing("scatter", problem).supports(problem, DEVICE) == (
        "has no product that is not summed over the experts of a token, block = moa:length=5 needs one"
    )


@pytest.mark.parametrize("name", ["matmul", "dense", "alltoall"])
def test_reference_rates_and_kernels_between_ranks_refuse_blocks(name: str) -> None:
    problem = BASE.replace(block="shared", mode="forward")
    assert "block = shared" in str(competing(name, problem).supports(problem, DEVICE))


def test_a_shared_expert_of_zero_width_weights_changes_nothing() -> None:
    """A shared expert whose weights are zeros leaves the experts as they are."""
    problem = BASE.replace(block="shared")
    inputs = draw(problem)
    for tensor in inputs.weights.own.values():
        tensor.zero_()
    plain = Inputs(x_TD=inputs.x_TD, routing=inputs.routing, weights=inputs.weights.of_experts(), dy_TD=inputs.dy_TD)
    assert torch.equal(true_layer(problem, inputs).y_TD, true_layer(problem.replace(block=""), plain).y_TD)


def test_a_shared_expert_is_an_expert_that_every_token_takes() -> None:
    """The MLP is that of an expert with the same weights: gate rows first, then up rows."""
    problem = BASE.replace(block="shared", E=1, K=1)
    inputs = draw(problem)
    own, x_TD = inputs.weights.own, inputs.x_TD.double()
    expected_TD: Tensor = activate(problem, x_TD @ own["layer_mlp_up"].double().T) @ own["layer_mlp_down"].double().T
    plain = Inputs(x_TD=inputs.x_TD, routing=inputs.routing, weights=inputs.weights.of_experts(), dy_TD=inputs.dy_TD)
    alone_TD = true_layer(problem.replace(block=""), plain).y_TD
    torch.testing.assert_close(true_layer(problem, inputs).y_TD - alone_TD, expected_TD)
