"""Routes are ordered as a plain simulation orders them, without waiting for the device."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from route_cases import Case, awkward, cases, drawn, large, listed, simulated

from moebench.kernels.problem.routing import Routing, service_order
from moebench.kernels.triton.permutation import COMPACT, Blocked, Capacity, block_bound, order

CPU = torch.device("cpu")
CASES = awkward() | large()


def assert_simulated(case: Case) -> None:
    found = listed(case.order(CPU))
    for name, expected in simulated(case).items():
        assert found[name] == expected + [-1] * (len(found[name]) - len(expected)), name


@pytest.mark.parametrize("name", CASES)
def test_order_is_that_of_a_simulation(name: str) -> None:
    assert_simulated(CASES[name])


@given(case=cases())
def test_order_of_any_routes_is_that_of_a_simulation(case: Case) -> None:
    assert_simulated(case)


@pytest.mark.parametrize("name", CASES)
def test_everything_is_int32_and_the_host_knows_every_size(name: str) -> None:
    """The device ``meta`` has no values, so that only shapes can be read; they are the same on a real device."""
    found, schedules = CASES[name].order(CPU)
    imagined, imagined_schedules = CASES[name].order(torch.device("meta"))
    for real, meta in ((found, imagined), *zip(schedules, imagined_schedules, strict=True)):
        for field, value in vars(real).items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == torch.int32
                assert getattr(meta, field).shape == value.shape
                assert getattr(meta, field).is_meta
    assert (found.experts, found.rows) == (CASES[name].experts, len(found.route_R))


@pytest.mark.parametrize(("experts", "block"), [*product([1, 2, 3], [1, 2, 3, 5])])
def test_no_routing_needs_more_blocks_than_the_bound_and_some_need_all(experts: int, block: int) -> None:
    needed: dict[int, int] = {}
    for counts in product(range(8), repeat=experts):
        blocks = sum(-(-count // block) for count in counts)
        needed[sum(counts)] = max(needed.get(sum(counts), 0), blocks)
    for rows in range(8):
        assert block_bound(rows, experts, block) == needed[rows]


@pytest.mark.parametrize(
    ("layout", "limit", "rows"),
    [
        (COMPACT, None, 40),
        (COMPACT, 6, 18),
        (Capacity(capacity=7), None, 21),
        (Blocked(block=8), None, 8 * (2 + 5)),
        (Blocked(block=8), 9, 8 * 6),
    ],
)
def test_buffers_are_no_larger_than_some_routing_needs(
    layout: Blocked | Capacity, limit: int | None, rows: int
) -> None:
    found, _ = order(drawn(20, 2, 3)[0], experts=3, layout=layout, blocks=(), limit=limit)
    assert found.rows == rows


def test_routes_are_served_by_gate_weight_when_asked() -> None:
    ids_TK = torch.tensor([[1, 0], [0, 1], [0, 1]], dtype=torch.int32)
    gates_TK = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]])
    service_N = service_order(Routing(ids_TK=ids_TK, gates_TK=gates_TK, experts=2), "gate_weight")
    found, _ = order(ids_TK, experts=2, layout=Capacity(capacity=2), blocks=(), service_N=service_N, limit=2)
    assert found.route_R.tolist() == [4, 2, 0, 5]  # first choices, the surest token first, then second choices
    assert found.slot_N.tolist() == [2, -1, 1, -1, 0, 3]


def test_indices_that_are_not_int32_are_refused() -> None:
    ids_TK, service_N = drawn(4, 1, 3, served=True)
    assert service_N is not None
    with pytest.raises(ValueError, match=r"ids: torch.int64 on cpu, give torch.int32 on cpu"):
        order(ids_TK.long(), experts=3, layout=COMPACT, blocks=())
    with pytest.raises(ValueError, match=r"the service order: torch.int64"):
        order(ids_TK, experts=3, layout=COMPACT, blocks=(), service_N=service_N.long())


def test_more_rows_than_int32_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="3000000000 rows"):
        order(drawn(4, 1, 3)[0], experts=3, layout=Capacity(capacity=10**9), blocks=())
