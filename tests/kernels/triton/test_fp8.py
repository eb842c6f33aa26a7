"""Weights in float8_e4m3fn: the layer in Triton is the W8A8 layer written out in torch, and runs where it can.

The bound of the dtype allows for the rounding of tokens and hidden rows. Here both sides round, so what is left is that
of bfloat16, and a few hidden values that fall to the other side of a step.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from moebench.execution.trial.checks.accuracy import errors, verdict
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.hardware.device_limits import assuming, hardware
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.implementations._triton import runs_on
from moebench.kernels.oracle import Result, drop
from moebench.kernels.problem import Problem
from moebench.kernels.problem.tensors import Inputs, draw_inputs, draw_weights, quantise
from moebench.kernels.torch_ops.activations import activate
from moebench.kernels.triton.expert_mlp import LayerPlan
from moebench.kernels.triton.launch import recording
from moebench.kernels.triton.permutation import COMPACT
from moebench.kernels.triton.tiles import tilings

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
META = torch.device("meta")
NAMES = ("triton_scatter", "triton_padded")
BASE = Problem(T=33, D=64, F=48, E=4, K=2, dtype="float8_e4m3fn", capacity_factor=4.0)
REFUSAL = KERNELS.load("triton_scatter").supports(BASE, DEVICE)

pytestmark = pytest.mark.skipif(runs_on(DEVICE) is not None, reason=str(runs_on(DEVICE)))
runs = pytest.mark.skipif(REFUSAL is not None, reason=str(REFUSAL))
either = pytest.mark.parametrize("name", NAMES)


def draw(problem: Problem) -> Inputs:
    return draw_inputs(problem, draw_weights(problem, seed=0, device=DEVICE), seed=1, device=DEVICE)


def rounded(rows: Tensor) -> Tensor:
    """Quantise and dequantise, in float64."""
    values, scale_M = quantise(rows)
    return values.double() * scale_M[:, None]


def w8a8(problem: Problem, inputs: Inputs) -> Tensor:
    """Compute y (T, D) with tokens and hidden rows rounded to float8_e4m3fn."""
    weights, kept = inputs.weights, drop(problem, inputs.routing)
    assert weights.s_up_EU is not None
    assert weights.s_down_ED is not None
    y_TD = inputs.x_TD.new_zeros(problem.T, problem.D, dtype=torch.float64)
    for e in range(problem.E):
        token_n, k_n = torch.where(kept.ids_TK == e)
        h_nU = rounded(inputs.x_TD[token_n]) @ (weights.w_up_EUD[e].double() * weights.s_up_EU[e, :, None]).T
        if weights.b_up_EU is not None:
            h_nU = h_nU + weights.b_up_EU[e]
        a_nF = activate(problem, h_nU).to(torch.bfloat16)
        y_nD = rounded(a_nF) @ (weights.w_down_EDF[e].double() * weights.s_down_ED[e, :, None]).T
        if weights.b_down_ED is not None:
            y_nD = y_nD + weights.b_down_ED[e]
        y_TD.index_add_(0, token_n, y_nD * kept.gates_TK[token_n, k_n, None])
    return y_TD


def run(name: str, problem: Problem, inputs: Inputs, config: Config | None = None) -> Tensor:
    kernel = KERNELS.load(name)
    assert kernel.supports(problem, DEVICE) is None
    layer = kernel.build(problem, config or kernel.space(problem, DEVICE)[0], DEVICE)
    return layer(inputs.x_TD, inputs.routing, inputs.weights)


def assert_close(y_TD: Tensor, expected_TD: Tensor) -> None:
    assert y_TD.dtype == torch.bfloat16
    found = errors(Result(y_TD=y_TD, gradients={}), Result(y_TD=expected_TD, gradients={}))
    assert verdict(found, "bfloat16") is None


@runs
@either
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias": True, "gated": False, "activation": "gelu"},
        {"bias": True, "D": 100, "F": 72, "load": "hot"},
        {"D": 7, "F": 5},
        {"capacity_factor": 0.5, "drop": "gate_weight", "load": "zipf:1.5"},
        {"E": 1, "K": 1, "T": 1},
    ],
    ids=str,
)
def test_the_layer_is_the_one_written_out(name: str, changes: dict[str, object]) -> None:
    problem = BASE.replace(**changes)
    inputs = draw(problem)
    assert_close(run(name, problem, inputs), w8a8(problem, inputs))


def one_of_each(configs: list[Config]) -> list[Config]:
    """Return the first configuration with each value of the parameters that matter to the interpreter."""
    distinct = ("up", "down", "descriptors", "persistent", "specialise", "split_k", "gathered", "scatter")
    firsts = {(name, config[name]): config for config in reversed(configs) for name in distinct if name in config}
    return list({id(config): config for config in firsts.values()}.values())


@runs
@pytest.mark.exhaustive
@either
def test_configurations_give_the_same(name: str) -> None:
    problem = BASE.replace(bias=True, load="hot")
    kernel, inputs = KERNELS.load(name), draw(problem)
    expected_TD = w8a8(problem, inputs)
    valid = [config for config in kernel.space(problem, DEVICE) if kernel.valid(problem, config, DEVICE)]
    for config in one_of_each(valid):
        assert_close(run(name, problem, inputs, config), expected_TD)


@runs
@either
def test_missing_routes_tokens_of_zeros_and_strides(name: str) -> None:
    """Missing routes are not read, and zeros are not divided by; ids out of range are missing too."""
    problem = BASE.replace(bias=True)
    drawn = draw(problem)
    drawn.x_TD[::3] = 0
    ids_TK = drawn.routing.ids_TK.clone()
    ids_TK[::4] = -1
    inputs = dataclasses.replace(drawn, routing=dataclasses.replace(drawn.routing, ids_TK=ids_TK))
    wild_TK = torch.where(ids_TK == -1, problem.E, ids_TK)
    strided = dataclasses.replace(
        inputs,
        x_TD=inputs.x_TD.T.contiguous().T,
        routing=dataclasses.replace(inputs.routing, ids_TK=wild_TK),
        weights=inputs.weights.map(lambda tensor: tensor.transpose(-1, -2).contiguous().transpose(-1, -2)),
    )
    y_TD = run(name, problem, strided)
    assert_close(y_TD, w8a8(problem, inputs))
    assert not y_TD[::4].any()
    assert torch.equal(y_TD, run(name, problem, inputs))


@runs
@pytest.mark.parametrize("D", [1, 5, 9000])
def test_rows_are_quantised_as_in_torch(D: int) -> None:
    """Rows cover the whole range of bfloat16, with rows of zeros and strided rows."""
    problem = BASE.replace(D=D)
    plan = LayerPlan(
        problem=problem,
        tiles=tilings(problem, hardware(DEVICE), [(16, 64, 256, 4)])[0],
        hardware=hardware(DEVICE),
        layout=COMPACT,
        gathered=True,
        scatter=False,
    )
    generator = torch.Generator().manual_seed(0)
    x_TD = (torch.randn(12, D, generator=generator) * torch.logspace(-35, 35, 12)[:, None]).to(torch.bfloat16)
    x_TD[:, ::3] *= 2**-7
    x_TD[5] = 0
    products = plan.products(draw(problem).routing)
    for layout in (x_TD, x_TD.T.contiguous().T):
        values_TD, scale_T = products.quantise(layout.to(DEVICE), of_buffer=False)
        expected_TD, expected_T = quantise(x_TD)
        torch.testing.assert_close(scale_T.cpu(), expected_T, rtol=1e-6, atol=0)
        other = values_TD.cpu().float() != expected_TD.float()
        # A GPU's quotient may be off by its last bit, and fall to the other side of a step.
        assert float(other.float().mean()) <= (1e-3 if DEVICE.type == "cuda" else 0)


@either
@pytest.mark.parametrize("target", HARDWARE)
def test_only_hardware_that_multiplies_it_is_taken(name: str, target: str) -> None:
    with assuming(HARDWARE[target]):
        refusal = KERNELS.load(name).supports(BASE, META)
    assert (refusal is None) == (target in ("sm_90", "sm_100"))
    assert refusal is None or "dtype = float8_e4m3fn" in refusal


@either
def test_a_layer_never_waits_for_the_device(name: str) -> None:
    inputs = draw(BASE.replace(bias=True))
    routing = dataclasses.replace(
        inputs.routing, ids_TK=inputs.routing.ids_TK.to(META), gates_TK=inputs.routing.gates_TK.to(META)
    )
    kernel = KERNELS.load(name)
    with assuming(HARDWARE["sm_90"]), recording() as launches:
        layer = kernel.build(BASE.replace(bias=True), kernel.space(BASE, META)[0], META)
        y_TD = layer(inputs.x_TD.to(META), routing, inputs.weights.map(lambda tensor: tensor.to(META)))
    assert (y_TD.shape, y_TD.dtype) == (inputs.x_TD.shape, torch.bfloat16)
    assert [launch.name for launch in launches].count("quantise_rows") == 2


COMPILED = """
import dataclasses, json, torch
from moebench.kernels.catalog import KERNELS
from moebench.kernels.compiler.compile import META, Target, compile_launch
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.triton.launch import recording
from moebench.kernels.triton.tiles import Tiles
from moebench.kernels.problem import Problem
from moebench.kernels.problem.tensors import draw_inputs, draw_weights
problem = Problem(T=1024, D=512, F=512, E=2, K=2, dtype="float8_e4m3fn", capacity_factor=1.0)
CPU, target = torch.device("cpu"), Target.named("sm_90")
inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=0, device=CPU)
ids, gates = inputs.routing.ids_TK.to(META), inputs.routing.gates_TK.to(META)
routing = dataclasses.replace(inputs.routing, ids_TK=ids, gates_TK=gates)
for name in ("triton_scatter", "triton_padded"):
    kernel = KERNELS.load(name)
    with assuming(target.hardware), recording() as launches:
        config = kernel.space(problem, META)[0]
        layer = kernel.build(problem, config, META)
        layer(inputs.x_TD.to(META), routing, inputs.weights.map(lambda tensor: tensor.to(META)))
    predicted = Tiles.of(config).shared_bytes(problem, target.hardware)
    for launch in launches:
        if launch.name in ("up", "down"):
            found = compile_launch(launch, target)
            instructions = [*found.tensor_core, *found.bulk_copies]
            print(json.dumps([instructions, found.spill_bytes, found.shared_bytes, predicted]))
"""


def test_hopper_products_are_of_float8_by_tma_without_spills(tmp_path: Path) -> None:
    """The machine code for sm_90 uses no more shared memory than `Tiles` computes."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    answer = subprocess.run(
        [sys.executable, "-c", COMPILED], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(found) == 4
    for instructions, spill_bytes, shared_bytes, predicted in found:
        assert {"QGMMA", "UTMALDG"} <= set(instructions)
        assert spill_bytes == 0
        assert shared_bytes <= predicted
