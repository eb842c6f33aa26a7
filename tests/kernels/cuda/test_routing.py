"""The CUDA sort of routes is the torch one bit for bit, whatever the routes and the order in which threads run."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from cuda_on_cpu import Machine
from hypothesis import given, settings
from hypothesis import strategies as st
from orders import Case, awkward, cases, large, listed

from moebench.kernels.cuda import module

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
CASES = awkward() | large()


@pytest.mark.parametrize("name", CASES)
def test_cuda_is_torch_bit_for_bit(machine: Machine, name: str) -> None:
    with machine(0) as device:
        found = listed(CASES[name].order(device))
    assert found == listed(CASES[name].order(CPU))


@given(case=cases(), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_cuda_is_torch_for_any_routes_and_any_order_of_threads(machine: Machine, case: Case, seed: int) -> None:
    with machine(seed) as device:
        found = listed(case.order(device))
    assert found == listed(case.order(CPU))


def test_more_experts_or_schedules_than_the_kernel_takes_are_left_to_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "usable", lambda _: True)
    monkeypatch.delattr(module, "launch")
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
