"""The block-sparse products against dense ones, and the layer against the reference."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from moebench.kernels.config import Config
from moebench.kernels.implementations.block_sparse import kernel, padded_places
from moebench.kernels.oracle import reference
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import NO_ROUTE, Routing, group_by_expert
from moebench.kernels.problem.tensors import Inputs, Weights, draw_inputs, draw_weights
from moebench.kernels.torch_ops.sparse_matmul import SparseTopology, dsd, dst, sample_product, sdd, sparse_product

CPU = torch.device("cpu")
BOUNDS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}
TRAIN = Problem(T=50, D=24, F=32, E=6, K=3, mode="train")
B16: Config = {"block": 16}


def topology_of(counts: list[int]) -> SparseTopology:
    return SparseTopology.of(counts, hidden=6, block=2)


def dense_of(topology: SparseTopology, values: Tensor, experts: int) -> Tensor:
    """Put blocks at the positions that their indices give in a matrix of zeros, (P, E * H)."""
    block = topology.block
    dense = values.new_zeros(topology.rows, experts * topology.hidden)
    for row, column, piece in zip(topology.row_Z * block, topology.column_Z * block, values, strict=True):
        dense[row : row + block, column : column + block] = piece
    return dense


COUNTS = [[3, 0, 5, 2], [0, 0, 0, 1], [4, 4, 4, 4], [0, 0, 0, 0]]


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_blocks_pair_the_rows_of_an_expert_with_its_columns(counts: list[int]) -> None:
    topology = topology_of(counts)
    row, expected = 0, []
    for expert, count in enumerate(counts):
        for _ in range(-(-count // 2)):
            expected += [(row, 3 * expert + column) for column in range(3)]
            row += 1
    assert list(zip(topology.row_Z.tolist(), topology.column_Z.tolist(), strict=True)) == expected
    assert topology.rows == 2 * row


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_the_transpose_lists_the_same_blocks_by_column_then_row(counts: list[int]) -> None:
    topology = topology_of(counts)
    pairs = list(zip(topology.column_Z.tolist(), topology.row_Z.tolist(), strict=True))
    assert [pairs[z] for z in topology.transpose_Z] == sorted(pairs)


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_products_equal_dense_ones_on_the_nonzero_blocks(counts: list[int]) -> None:
    topology = topology_of(counts)
    generator = torch.Generator().manual_seed(0)
    rows_PD = torch.randn(topology.rows, 5, generator=generator)
    m_EHD = torch.randn(4, 6, 5, generator=generator)
    matrix = m_EHD.flatten(0, 1)
    mask = dense_of(topology, torch.ones(topology.nonzero, 2, 2), experts=4)
    values = sdd(topology, rows_PD, m_EHD)
    dense = dense_of(topology, values, experts=4)
    torch.testing.assert_close(dense, rows_PD @ matrix.T * mask)
    torch.testing.assert_close(dsd(topology, values, m_EHD), dense @ matrix)
    out_EHD = torch.full_like(m_EHD, torch.nan)
    dst(topology, values, rows_PD, out_EHD)
    torch.testing.assert_close(out_EHD.flatten(0, 1), dense.T @ rows_PD)


def test_gradients_of_the_products_equal_finite_differences() -> None:
    topology = topology_of([3, 0, 5, 2])
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    rows_PD, up_EHD, down_EDF = leaf(topology.rows, 5), leaf(4, 6, 5), leaf(4, 5, 6)
    assert torch.autograd.gradcheck(lambda x, m: sample_product(topology, x, m), (rows_PD, up_EHD))
    values = leaf(topology.nonzero, 2, 2)
    assert torch.autograd.gradcheck(lambda s, m: sparse_product(topology, s, m.transpose(1, 2)), (values, down_EDF))


def test_every_route_has_its_own_row_among_its_experts() -> None:
    ids_TK = torch.tensor([[2, 0], [2, NO_ROUTE], [0, 2]], dtype=torch.int32)
    routing = Routing(ids_TK=ids_TK, gates_TK=torch.ones(3, 2), experts=3)
    places = padded_places(routing, group_by_expert(routing), block=4)
    assert places.slot_TK.tolist() == [[4, 0], [5, NO_ROUTE], [1, 6]]
    assert places.token_M.tolist() == [0, 2, 3, 3, 0, 1, 2, 3]


def without_routes(inputs: Inputs, step: int) -> Inputs:
    """Remove every ``step``-th route."""
    ids_TK = inputs.routing.ids_TK.clone()
    ids_TK.view(-1)[::step] = NO_ROUTE
    return dataclasses.replace(inputs, routing=dataclasses.replace(inputs.routing, ids_TK=ids_TK))


def same_expert_twice(inputs: Inputs) -> Inputs:
    ids_TK = inputs.routing.ids_TK.clone()
    ids_TK[:, 1] = ids_TK[:, 0]
    return dataclasses.replace(inputs, routing=dataclasses.replace(inputs.routing, ids_TK=ids_TK))


def strided(inputs: Inputs) -> Inputs:
    """Copy a tensor into memory that is not contiguous."""

    def spread(tensor: Tensor) -> Tensor:
        return tensor.repeat_interleave(2, dim=-1)[..., ::2]

    weights = Weights(w_up_EUD=spread(inputs.weights.w_up_EUD), w_down_EDF=spread(inputs.weights.w_down_EDF))
    return dataclasses.replace(inputs, x_TD=spread(inputs.x_TD), weights=weights)


def check(problem: Problem, inputs: Inputs, config: Config) -> None:
    """Check the output without and with autograd, and every gradient, by norm."""
    expected = reference(problem, inputs)
    layer = kernel.build(problem, config, CPU)
    alone_TD = layer(inputs.x_TD, inputs.routing, inputs.weights)
    inputs.requires_grad_()
    y_TD = layer(inputs.x_TD, inputs.routing, inputs.weights)
    wanted = inputs.differentiable()
    gradients = torch.autograd.grad(y_TD, list(wanted.values()), inputs.dy_TD)
    pairs = [("y alone", alone_TD, expected.y_TD), ("y", y_TD.detach(), expected.y_TD)]
    pairs += [(name, found, expected.gradients[name]) for name, found in zip(wanted, gradients, strict=True)]
    for name, found, truth in pairs:
        assert found.shape == truth.shape, name
        error = float((found.double() - truth).norm())
        assert error <= BOUNDS[problem.dtype] * float(truth.norm()), name


@pytest.mark.parametrize("block", [16, 32])
@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize(
    "changes",
    [{}, {"gated": False, "activation": "gelu"}, {"gated": False, "activation": "relu"}, {"load": "hot"}],
    ids=str,
)
def test_output_and_gradients_equal_the_reference(changes: dict[str, object], dtype: str, block: int) -> None:
    problem = TRAIN.replace(dtype=dtype, **changes)
    check(problem, draw(problem), {"block": block})


def draw(problem: Problem) -> Inputs:
    return draw_inputs(problem, draw_weights(problem, seed=1, device=CPU), seed=2, device=CPU)


def test_missing_routes_add_nothing() -> None:
    check(TRAIN, without_routes(draw(TRAIN), 4), B16)


def test_without_any_route_everything_is_zero() -> None:
    check(TRAIN, without_routes(draw(TRAIN), 1), B16)


def test_without_tokens_everything_is_empty_or_zero() -> None:
    problem = TRAIN.replace(T=0)
    check(problem, draw(problem), B16)


def test_empty_experts_have_zero_gradients() -> None:
    problem = TRAIN.replace(load="empty:0.5")
    check(problem, draw(problem), B16)


def test_two_equal_experts_of_a_token_add_up() -> None:
    check(TRAIN, same_expert_twice(draw(TRAIN)), B16)


def test_inputs_need_not_be_contiguous() -> None:
    check(TRAIN, strided(draw(TRAIN)), B16)


def test_a_token_that_is_not_finite_stays_alone() -> None:
    """Padding rows are zeros: no value of one expert's tokens reaches another expert's weight gradients."""
    inputs = draw(TRAIN)
    inputs.x_TD[0] = torch.inf
    touched = set(inputs.routing.ids_TK[0].tolist())
    inputs.requires_grad_()
    y_TD = kernel.build(TRAIN, B16, CPU)(inputs.x_TD, inputs.routing, inputs.weights)
    (dw_up_EUD,) = torch.autograd.grad(y_TD, [inputs.weights.w_up_EUD], inputs.dy_TD)
    assert y_TD[1:].isfinite().all()
    assert [bool(dw_up_EUD[e].isfinite().all()) for e in range(TRAIN.E)] == [e not in touched for e in range(TRAIN.E)]


def test_the_space_holds_the_sides_that_divide_the_hidden_width() -> None:
    assert {config["block"] for config in kernel.space(TRAIN.replace(F=192), CPU)} == {64, 32, 16}
    assert not kernel.valid(TRAIN.replace(F=192), {"block": 128}, CPU)


@pytest.mark.parametrize(("rows", "default"), [(1, 16), (64, 16), (128, 32), (255, 32), (256, 64), (4096, 64)])
def test_the_default_side_is_a_quarter_of_the_mean_rows(rows: int, default: int) -> None:
    problem = TRAIN.replace(T=rows, E=4, K=4, F=256)
    assert kernel.space(problem, CPU)[0] == {"block": default}


def test_a_hidden_width_without_a_side_is_refused_with_the_reason() -> None:
    assert kernel.supports(TRAIN.replace(F=24), CPU) == "needs a block side of 16, 32, 64, 128 that divides F = 24"
    assert kernel.supports(TRAIN, CPU) is None


def test_cost_counts_rows_in_whole_blocks() -> None:
    ids_TK = torch.zeros(33, 1, dtype=torch.int32)
    routing = Routing(ids_TK=ids_TK, gates_TK=torch.ones(33, 1), experts=6)
    assert kernel.cost(TRAIN.replace(K=1), {"block": 64}, routing).executed_rows == 64
    assert kernel.cost(TRAIN.replace(K=1), B16, routing).executed_rows == 48
