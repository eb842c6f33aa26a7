"""The products of a block-sparse layer against dense ones under a mask, on counts around a block.

Memory that was not written is NaN or the largest integer here, so that a product that used any of it would fail.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from exhaustive import all_but
from route_cases import counted
from torch import Tensor

from moebench.kernels.hardware.device_limits import INTERPRETER
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import Routing
from moebench.kernels.problem.tensors import TORCH_DTYPES, Weights, draw_weights
from moebench.kernels.torch_ops.activations import activate
from moebench.kernels.triton.block_products import BlockPlan, BlockProducts
from moebench.kernels.triton.block_topology import BlockTopology
from moebench.kernels.triton.permutation import Blocked
from moebench.kernels.triton.tiles import Tile, Tiles

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIDE = 16
COUNTS = [0, 1, SIDE - 1, SIDE, SIDE + 1, 0]
PROBLEM = Problem(T=sum(COUNTS), D=40, F=48, E=len(COUNTS), K=1, mode="train", bias=True)


def tiles(columns: int = 32, step: int = 32, weights: int = 32, **others: object) -> Tiles:
    """Return tiles as high as a block, and square ones for the gradient of the weights."""
    tile = Tile(SIDE, columns, step, warps=4, stages=2)
    square = Tile(weights, weights, step, warps=4, stages=2)
    return dataclasses.replace(Tiles.same(tile, **others), weights=square)


TILES = {
    "by pointer, steps over several blocks": tiles(),
    "by descriptor, a block at a time": tiles(step=16, weights=16, descriptors=True),
    "by descriptor, several blocks at a time": tiles(columns=64, descriptors=True),
    "persistent": tiles(step=16, weights=16, descriptors=True, persistent=True, group_m=2),
    "wider than the hidden rows": tiles(columns=128, weights=128),
}
BOUNDS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}
CASES = [
    *((name, {}) for name in TILES),
    ("by pointer, steps over several blocks", {"D": 37, "dtype": "bfloat16"}),
    ("by descriptor, a block at a time", {"gated": False, "activation": "gelu", "dtype": "bfloat16"}),
    ("by descriptor, several blocks at a time", {"gated": False, "activation": "relu", "dtype": "float16"}),
]

on_every_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill uninitialised memory with NaN, and with the largest integer."""

    def poison(empty: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def filled(*arguments: Any, **options: Any) -> Tensor:
            made = empty(*arguments, **options)
            return made.fill_(torch.nan if made.is_floating_point() else torch.iinfo(made.dtype).max)

        return filled

    monkeypatch.setattr(Tensor, "new_empty", poison(Tensor.new_empty))
    monkeypatch.setattr(torch, "empty_like", poison(torch.empty_like))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """The products of a problem on `COUNTS`, with operands in float32 beside those of the problem's dtype."""

    problem: Problem
    products: BlockProducts
    weights: Weights
    gates_TK: Tensor
    x_TD: Tensor
    dy_TD: Tensor

    @property
    def route_P(self) -> Tensor:
        """Return the route of every used row of the buffer, -1 for padding."""
        used = sum(-(-count // SIDE) * SIDE for count in COUNTS)
        return self.products.order.route_R[:used].long()

    @property
    def expert_P(self) -> Tensor:
        experts = [e for e, count in enumerate(COUNTS) for _ in range(-(-count // SIDE) * SIDE)]
        return torch.tensor(experts, device=DEVICE)

    @property
    def gates_P(self) -> Tensor:
        """Return the gate weight of every row, 0 for padding."""
        return torch.where(self.route_P >= 0, self.gates_TK.flatten()[self.route_P.clamp(min=0)], 0)

    def rows(self, tokens_TD: Tensor) -> Tensor:
        """Return the tokens at their rows in float32, zeros for padding."""
        used_P1 = (self.route_P >= 0)[:, None]
        return torch.where(used_P1, tokens_TD.float()[self.route_P.clamp(min=0)], 0)

    def mask(self, width: int) -> Tensor:
        """Return a mask of the columns of every row's expert, (P, E * width), also for padding."""
        of_P = torch.nn.functional.one_hot(self.expert_P, self.problem.E)
        return of_P.repeat_interleave(width, 1).bool()

    def dense(self, hidden: Tensor) -> Tensor:
        """Place hidden rows in a matrix of zeros by the topology, (P, E * width)."""
        columns = hidden.shape[1] // SIDE
        topology = BlockTopology.of(self.products.schedules[SIDE], columns=columns)
        values = hidden.reshape(-1, SIDE, SIDE).float()
        dense = values.new_zeros(len(self.route_P), self.problem.E * columns * SIDE)
        offsets = topology.first_J.tolist()
        for column, (start, end) in enumerate(pairwise(offsets)):
            for z, row in zip(topology.transpose_Z[start:end], topology.row_Z[start:end], strict=True):
                dense[row * SIDE :, column * SIDE :][:SIDE, :SIDE] = values[z]
        return dense


def plan_of(tiles: Tiles, problem: Problem) -> BlockPlan:
    return BlockPlan(
        problem=problem,
        tiles=tiles,
        hardware=INTERPRETER,
        layout=Blocked(block=SIDE),
        gathered=False,
        scatter=False,
    )


def call_of(case: tuple[str, dict[str, object]]) -> Call:
    name, changes = case
    problem = PROBLEM.replace(**changes)
    plan = plan_of(TILES[name], problem)
    generator = torch.Generator(DEVICE).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=DEVICE)

    gates_TK = normal(problem.T, 1)
    dtype = TORCH_DTYPES[problem.dtype]
    return Call(
        problem=problem,
        products=plan.products(Routing(ids_TK=counted(*COUNTS).to(DEVICE), gates_TK=gates_TK, experts=problem.E)),
        weights=draw_weights(problem, seed=1, device=DEVICE),
        gates_TK=gates_TK,
        x_TD=normal(problem.T, problem.D).to(dtype),
        dy_TD=normal(problem.T, problem.D).to(dtype),
    )


def assert_close(problem: Problem, found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert float((found.float() - expected).norm()) <= BOUNDS[problem.dtype] * float(expected.norm())


def spread(call: Call, rows_PH: Tensor) -> Tensor:
    """Place hidden rows in the columns of their experts, (P, E * H)."""
    return rows_PH.repeat(1, call.problem.E) * call.mask(rows_PH.shape[1])


def pre_activations(call: Call) -> Tensor:
    """Compute x W_up^T + b_up of every row with dense products, (P, U)."""
    problem, weights = call.problem, call.weights
    assert weights.b_up_EU is not None
    dense = call.rows(call.x_TD) @ weights.w_up_EUD.float().flatten(0, 1).T + weights.b_up_EU.float().flatten()
    return dense[call.mask(problem.U)].view(-1, problem.U)


@on_every_case
def test_sampled_product_makes_the_nonzero_blocks_of_the_dense_one(case: tuple[str, dict[str, object]]) -> None:
    call = call_of(case)
    problem, products, weights = call.problem, call.products, call.weights
    h_RU = call.x_TD.new_empty(products.order.rows, problem.U)
    a_RF = products.up(products.dispatch(call.x_TD), weights.w_up_EUD, weights.b_up_EU, h_RU)
    h_PU = pre_activations(call)
    assert_close(problem, call.dense(h_RU), spread(call, h_PU))
    assert_close(problem, call.dense(a_RF), spread(call, activate(problem, h_PU)))


@on_every_case
def test_product_of_the_blocks_is_the_dense_one_times_the_gates(case: tuple[str, dict[str, object]]) -> None:
    call = call_of(case)
    problem, products, weights = call.problem, call.products, call.weights
    assert weights.b_down_ED is not None
    a_RF = products.up(products.dispatch(call.x_TD), weights.w_up_EUD, weights.b_up_EU, None)
    y_1RD = products.down(a_RF, weights.w_down_EDF, weights.b_down_ED, call.gates_TK, scatter=False)
    y_PD = call.dense(a_RF) @ weights.w_down_EDF.float().transpose(1, 2).flatten(0, 1)
    y_PD += weights.b_down_ED.float()[call.expert_P]
    stands_P = call.route_P >= 0
    found_PD = y_1RD[0, : len(stands_P)]
    assert_close(problem, found_PD[stands_P], y_PD[stands_P] * call.gates_P[stands_P, None])


@pytest.mark.parametrize("case", all_but([CASES[0], CASES[3], CASES[6]], CASES), ids=str)
def test_backward_products_are_the_dense_ones(case: tuple[str, dict[str, object]]) -> None:
    call = call_of(case)
    problem, products, weights = call.problem, call.products, call.weights
    h_RU = call.x_TD.new_empty(products.order.rows, problem.U)
    x_RD, dy_RD = products.dispatch(call.x_TD), products.dispatch(call.dy_TD)
    products.up(x_RD, weights.w_up_EUD, weights.b_up_EU, h_RU)
    dh_RU, ga_RF, dgates_N = products.down_backward(dy_RD, weights.w_down_EDF, h_RU, call.gates_TK)
    dh, ga = call.dense(dh_RU), call.dense(ga_RF)
    # From the pre-activations as they were rounded.
    h_PU = call.dense(h_RU)[call.mask(problem.U)].view(-1, problem.U).requires_grad_()
    a_PF = activate(problem, h_PU)
    x_PD, dy_PD = call.rows(call.x_TD), call.rows(call.dy_TD)
    da = dy_PD @ weights.w_down_EDF.float().transpose(1, 2).flatten(0, 1).T
    da_PF = da[call.mask(problem.F)].view(-1, problem.F)
    (dh_PU,) = torch.autograd.grad(a_PF, h_PU, da_PF * call.gates_P[:, None])
    a_PF = a_PF.detach()
    stands_P = call.route_P >= 0
    assert_close(problem, dh, spread(call, dh_PU))
    assert_close(problem, ga, spread(call, a_PF * call.gates_P[:, None]))
    assert not dh[~stands_P].any()
    assert not ga[~stands_P].any()
    assert_close(problem, dgates_N[call.route_P[stands_P]], (a_PF * da_PF).sum(1)[stands_P])
    dx_1RD = products.tokens_gradient(dh_RU, weights.w_up_EUD, scatter=False)
    dx_PD = dh @ weights.w_up_EUD.float().flatten(0, 1)
    assert_close(problem, dx_1RD[0, : len(stands_P)][stands_P], dx_PD[stands_P])
    dw_down_EDF = products.weight_gradient(dy_RD, ga_RF, tokens="p", shape=weights.w_down_EDF.shape)
    assert_close(problem, dw_down_EDF.transpose(1, 2).flatten(0, 1), ga.T @ dy_PD)
    dw_up_EUD = products.weight_gradient(dh_RU, x_RD, tokens="q", shape=weights.w_up_EUD.shape)
    assert_close(problem, dw_up_EUD.flatten(0, 1), dh.T @ x_PD)
    assert not dw_up_EUD[COUNTS.index(0)].any()
    assert_close(problem, products.bias_gradient(dh_RU, None, tokens=False).flatten(), dh.sum(0))


def test_without_a_token_the_gradients_of_the_weights_are_zero() -> None:
    weights = draw_weights(PROBLEM, seed=1, device=DEVICE)
    ids_TK = torch.empty(0, 1, dtype=torch.int32, device=DEVICE)
    empty = Routing(ids_TK=ids_TK, gates_TK=torch.empty(0, 1, device=DEVICE), experts=PROBLEM.E)
    products = plan_of(TILES["by descriptor, a block at a time"], PROBLEM).products(empty)
    hidden, rows = weights.w_up_EUD.new_empty(0, PROBLEM.U), weights.w_up_EUD.new_empty(0, PROBLEM.D)
    assert not products.weight_gradient(hidden, rows, tokens="q", shape=weights.w_up_EUD.shape).any()
