"""Counters equal their formulas, and depend on nothing but the implementation and the problem."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress

import pytest
import torch

from moebench.autotune.search.space import Space
from moebench.execution.trial.work import work_of
from moebench.kernels.catalog import KERNELS
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.kernel import Cost
from moebench.kernels.oracle import drop
from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.problem.routing import Routing
from moebench.suites.gate.call_counters import of_call, of_cost, of_problem, undisturbed

CPU, META = torch.device("cpu"), torch.device("meta")
PROBLEM = Problem(T=64, D=32, F=48, E=4, K=2, capacity_factor=1.0, mode="train")
DROPLESS = PROBLEM.replace(capacity_factor=None)


def routes(problem: Problem) -> tuple[Routing, Routing]:
    routed = draw_routes(problem, seed=0, device=CPU)
    return routed, drop(problem, routed)


def test_work_counts_the_rows_that_are_kept() -> None:
    routed, kept = routes(PROBLEM)
    rows = int((kept.ids_TK >= 0).sum())
    assert 0 < rows < 128
    work = work_of(PROBLEM, routed, kept, Cost(executed_rows=200, workspace_bytes=0, extra_flops=7))
    assert work.useful_flops == 3 * 2 * rows * 32 * 48 * 3
    assert work.executed_flops == 3 * (2 * 200 * 32 * 48 * 3 + 7)
    assert (work.routed_rows, work.kept_rows, work.capacity) == (128, rows, 32)
    assert work.ideal_bytes == PROBLEM.ideal_bytes(4)
    assert of_problem(work)["drop_rate"] == pytest.approx(1 - rows / 128, abs=1e-6)


def test_padding_is_the_share_of_flops_beyond_the_problem() -> None:
    """A capacity of 1 pads to as many rows as were routed: what is padding is what was dropped."""
    routed, kept = routes(PROBLEM)
    found = of_cost(KERNELS.load("padded"), PROBLEM, {}, routed, kept, CPU)
    assert found["executed_flops"] == PROBLEM.flops(128)
    assert (
        found["padding"]
        == of_problem(work_of(PROBLEM, routed, kept, Cost(executed_rows=0, workspace_bytes=0)))["drop_rate"]
    )
    assert "node_bytes" not in found
    assert found["modelled_bytes"] > 0


def test_traffic_is_counted_where_there_are_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    problem = PROBLEM.replace(ranks=4)
    kernel = KERNELS.load("alltoall")
    config = kernel.space(problem, CPU)[0]
    counters = kernel.cost(problem, config, routes(problem)[1]).traffic
    found = of_cost(kernel, problem, config, *routes(problem), CPU)
    assert found["node_bytes"] == sum(counter.bytes["node"] for counter in counters) > 0
    assert found["across_bytes"] == sum(counter.bytes["across"] for counter in counters) == 0
    assert found["messages"] == sum(counter.messages for counter in counters) > 0


def test_a_static_model_tells_what_it_moves() -> None:
    problem = DROPLESS.replace(mode="forward")
    kernel = KERNELS.load("triton_scatter")
    with assuming(HARDWARE["sm_80"]):
        space = Space.of(kernel, problem, META)
        moved = of_cost(kernel, problem, space.default, *routes(problem), META)["modelled_bytes"]
    assert problem.ideal_bytes(4) < moved < 20 * problem.ideal_bytes(4)


def test_a_call_without_values_keeps_and_takes_what_it_would_with_them() -> None:
    """Saved tensors and the peak are as in Triton's interpreter, whose own tensors do not count."""
    kernel = KERNELS.load("triton_padded")
    problem = PROBLEM.replace(T=16)
    config = kernel.space(problem, META)[0]
    real, without = of_call(kernel, problem, config, CPU), of_call(kernel, problem, config, META)
    assert real["saved_bytes"] == without["saved_bytes"] > 0
    assert real["peak_bytes"] == without["peak_bytes"] > without["saved_bytes"] + problem.weight_bytes
    assert (without["launches"], without["host_waits"]) == (11, 0)
    assert "launches" not in real


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["scatter", "grouped", "block_sparse", "loop", "transformers_eager"])
def test_threads_collector_and_earlier_calls_change_no_figure(name: str, threads: int) -> None:
    kernel = KERNELS.load(name)
    config = kernel.space(DROPLESS, CPU)[0]
    found = []
    for count, collecting in ((1, True), (threads + 1, False), (2, True)):
        torch.set_num_threads(count)
        (gc.enable if collecting else gc.disable)()
        found.append(of_call(kernel, DROPLESS, config, CPU))
        assert torch.get_num_threads() == count
        assert gc.isenabled() == collecting
    gc.enable()
    assert found[0] == found[1] == found[2]
    assert found[0]["peak_bytes"] > found[0]["saved_bytes"] > 0


def test_a_forward_saves_nothing_and_says_nothing_of_it() -> None:
    problem = DROPLESS.replace(mode="forward")
    assert "saved_bytes" not in of_call(KERNELS.load("grouped"), problem, {}, CPU)


def test_what_was_disturbed_is_put_back_after_an_error() -> None:
    before = torch.get_num_threads()
    inside = []
    with suppress(ZeroDivisionError), undisturbed():
        inside += [torch.get_num_threads(), gc.isenabled()]
        _ = 1 / 0
    assert inside == [1, False]
    assert torch.get_num_threads() == before
    assert gc.isenabled()
