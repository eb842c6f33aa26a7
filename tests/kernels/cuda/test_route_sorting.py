"""The CUDA sort of routes is the torch one bit for bit, whatever the routes and the order in which threads run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from cuda_on_cpu import Machine
from exhaustive import all_but
from hypothesis import given, settings
from hypothesis import strategies as st
from route_cases import Case, awkward, cases, drawn, large, listed

from moebench.kernels.cuda import nvrtc, route_sorting
from moebench.kernels.triton.permutation import Blocked, Capacity, Layout

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
CASES = awkward() | large()


@pytest.mark.parametrize("name", all_but(awkward(), CASES))
def test_cuda_is_torch_bit_for_bit(machine: Machine, name: str) -> None:
    with machine(0) as device:
        found = listed(CASES[name].order(device))
    assert found == listed(CASES[name].order(CPU))


@pytest.mark.parametrize("routes_of_a_warp", [route_sorting._ROUTES_ALONE, 0], ids=["one launch", "two launches"])
@given(case=cases(), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_cuda_is_torch_for_any_routes_and_any_order_of_threads(
    machine: Machine, routes_of_a_warp: int, case: Case, seed: int
) -> None:
    with machine(seed) as device, pytest.MonkeyPatch.context() as patch:
        patch.setattr(route_sorting, "_ROUTES_ALONE", routes_of_a_warp)
        patch.setattr(route_sorting, "_ROUTES", 1)
        found = listed(case.order(device))
    assert found == listed(case.order(CPU))


@pytest.mark.parametrize("layout", [Blocked(block=16), Capacity(capacity=40)])
@pytest.mark.parametrize(
    ("routes", "experts", "launches"),
    [(0, 1, 1), (1, 1, 1), (4096, 1, 1), (4096, 512, 1), (4096, 1443, 1), (4096, 1444, 2), (4097, 512, 2)],
)
def test_few_routes_are_ordered_in_one_launch(
    machine: Machine, routes: int, experts: int, launches: int, layout: Layout
) -> None:
    """Every argument of an order is used: routes out of range, a limit, a service order, four schedules."""
    ids_TK, service_N = drawn(routes, 1, experts, low=-2, high=experts + 2, served=True)
    case = Case(ids_TK=ids_TK, experts=experts, layout=layout, limit=37, service_N=service_N, blocks=(16, 64, 128, 1))
    started: list[str] = []
    with machine(7) as device, pytest.MonkeyPatch.context() as patch:
        launch = nvrtc.launch

        def counted(file: str, kernel: str, *arguments: Any, **rest: Any) -> None:
            started.append(kernel)
            launch(file, kernel, *arguments, **rest)

        patch.setattr(nvrtc, "launch", counted)
        found = listed(case.order(device))
    assert found == listed(case.order(CPU))
    assert started == ["count_routes", "place_routes"][-launches:]
    assert route_sorting.launches(routes, experts) == launches


def test_more_experts_or_schedules_than_the_kernel_takes_are_left_to_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nvrtc, "usable", lambda _: True)
    monkeypatch.delattr(nvrtc, "launch")
    ids_TK = torch.tensor([[3], [9000]], dtype=torch.int32)
    wide = Case(ids_TK=ids_TK, experts=10_000)
    assert wide.order(CPU)[0].slot_N.tolist() == [0, 1]
    assert len(Case(ids_TK=ids_TK, experts=4, blocks=(1, 2, 3, 4, 5)).order(CPU)[1]) == 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_graph_orders_the_routes_that_stand_in_its_input_when_it_is_replayed() -> None:
    pytest.importorskip("cupy")
    device = torch.device("cuda")
    case = CASES["counts around a block"]
    on_gpu = dataclasses.replace(case, ids_TK=case.ids_TK.to(device))
    on_gpu.order(device)  # compiles, which a graph cannot capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = on_gpu.order(device)
    other = dataclasses.replace(case, ids_TK=5 - case.ids_TK)
    on_gpu.ids_TK.copy_(other.ids_TK)
    graph.replay()
    assert listed(found) == listed(other.order(CPU))
