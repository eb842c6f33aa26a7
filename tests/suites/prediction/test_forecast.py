"""Forecasts of whole calls: by hand, as published, and in relations that hold for any figures."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine_descriptions import cluster, link

from moebench.kernels.problem import Problem
from moebench.kernels.problem.models import model
from moebench.kernels.problem.popularity import choices
from moebench.suites.prediction.dispatcher_traffic import FLOWS, unsupported
from moebench.suites.prediction.forecast import Forecast, Setting, forecast
from moebench.suites.prediction.layout import Layout
from moebench.suites.prediction.machine import InvalidMachine, MachineDescription, machine


def setting(problem: Problem, where: MachineDescription, *, chunks: int = 1, groups: int = 1) -> Setting:
    layout = Layout(ranks=problem.ranks, ranks_per_node=where.ranks_per_node, groups=groups)
    return Setting(machine=where, layout=layout, problem=problem, choices=choices(problem), chunks=chunks)


def parts(found: Forecast) -> dict[str, float]:
    return {part.name: part.seconds for part in found.parts}


def test_a_padded_call_by_hand() -> None:
    """2 ranks, 4 tokens each, 1 expert each, C = 4: 4 rows to the other, 16 B of D = 4 in float32 and 8 of a route.

    All 4 tokens of a rank go to some expert and none is dropped: 8 rows in all, 4 for each rank.
    """
    problem = Problem(T=8, D=4, F=8, E=2, K=1, gated=False, capacity_factor=2.0, ranks=2, load="uniform")
    where = cluster(
        ranks_per_node=2,
        node=link(latency_s=1e-3, bytes_per_s=1e6),
        flops_per_s=1e6,
        bytes_per_s=1e7,
        layer_s=5e-3,
    )
    found = forecast("alltoall", setting(problem, where))
    spent = parts(found)
    assert spent["latency"] == pytest.approx(2e-3)
    assert spent["rank, inside"] == pytest.approx(4 * (16 + 8) / 1e6 + 4 * 16 / 1e6)
    copied_rows = 6 * 8 + 2 * 4  # six copies of the padded buffers of 8 rows, two of the rows that are multiplied
    assert spent["overhead"] == 5e-3
    part = {part.name: part for part in found.parts}
    assert part["products"].balanced_s == pytest.approx(2 * 4 * 4 * 8 * 2 / 1e6)
    moved = 2 * 4 * (copied_rows * 4 + 4 * (8 + 8))
    assert part["rows in memory"].balanced_s == pytest.approx(moved / 1e7)
    assert found.seconds == pytest.approx(sum(spent.values()))
    assert found.sent == {"self": 4 * 24 + 4 * 16, "node": 4 * 24 + 4 * 16, "across": 0}
    assert found.messages == 2


def test_it_is_the_model_of_fastermoe_where_that_holds() -> None:
    """3 B 4 α H² / W_mm + 4 B H b / W_net (He et al. 2022, equations 1 to 3), B the largest share of a rank.

    A training step of ungated experts of hidden width α H: three times a forward's products, four exchanges of rows.
    All rows are for the rank of the hot expert, and travel but for those it has itself.
    """
    H, alpha, ranks, tokens = 4096, 2, 4, 4000
    problem = Problem(
        T=ranks * tokens,
        D=H,
        F=alpha * H,
        E=4,
        K=1,
        gated=False,
        ranks=ranks,
        mode="train",
        load="hot",
        dtype="float32",
    )
    network = 5e9 / 8
    where = cluster(ranks_per_node=1, across=link(bytes_per_s=network), flops_per_s=11.5e12, bytes_per_s=1e18)
    found = forecast("alltoall", setting(problem, where))
    most = ranks * tokens
    computed = 3 * most * 4 * alpha * H**2 / 11.5e12
    moved = 4 * most * (ranks - 1) / ranks * H * 4 / network
    assert found.seconds == pytest.approx(computed + moved, rel=2e-3)
    assert found.straggling == pytest.approx(0.75, abs=0.01)


def test_weights_bind_where_there_are_few_rows() -> None:
    """One token of K = 2 touches 2 of 4 experts: their weights are read once, for next to no FLOPs."""
    problem = Problem(T=1, D=64, F=64, E=4, K=2)
    where = cluster(ranks_per_node=1, flops_per_s=1e15, bytes_per_s=1e9)
    spent = parts(forecast("alltoall", setting(problem, where)))
    assert spent["weights"] == pytest.approx(2 * problem.weight_bytes / 4 / 1e9)


def test_chunks_hide_the_shorter_of_both() -> None:
    """max(c, w) + min(c, w) / n where nothing else counts (Tutel, section 3.3)."""
    problem = Problem(T=4 * 4096, D=256, F=512, E=16, K=2, ranks=4)
    where = cluster(ranks_per_node=1, across=link(bytes_per_s=1e9), flops_per_s=1e12, bytes_per_s=1e18)
    whole = forecast("alltoall", setting(problem, where))
    spent = parts(whole)
    communication, compute = spent["rank, across"], spent["products"]
    for chunks in (2, 4, 8):
        found = forecast("alltoall", setting(problem, where, chunks=chunks))
        shorter = min(communication, compute)
        # The busiest rank of a chunk exceeds the mean a little more than that of the whole.
        assert found.seconds == pytest.approx(max(communication, compute) + shorter / chunks, rel=0.02)
        assert found.hidden_s == pytest.approx(shorter * (1 - 1 / chunks), rel=0.02)
        assert found.sent["across"] == pytest.approx(whole.sent["across"], rel=1e-3)


def test_chunks_cost_latencies_and_overheads() -> None:
    problem = Problem(T=4, D=8, F=8, E=4, K=1, ranks=4)
    where = cluster(ranks_per_node=1, across=link(latency_s=1e-3, message_s=1e-3), layer_s=1e-3)
    one, many = (forecast("alltoall", setting(problem, where, chunks=chunks)) for chunks in (1, 4))
    assert parts(many)["latency"] == pytest.approx(4 * parts(one)["latency"])
    assert parts(many)["overhead"] == pytest.approx(4e-3)
    assert parts(many)["counts"] == pytest.approx(parts(one)["counts"], rel=0.05)
    assert many.seconds > one.seconds


MACHINES = st.builds(
    cluster,
    ranks_per_node=st.integers(1, 4),
    node=st.builds(link, latency_s=st.floats(0, 1e-3), bytes_per_s=st.floats(1e6, 1e12)),
    across=st.builds(
        link, latency_s=st.floats(0, 1e-3), bytes_per_s=st.floats(1e6, 1e12), turns=st.none() | st.floats(0, 1)
    ),
    flops_per_s=st.floats(1e9, 1e15),
    bytes_per_s=st.floats(1e9, 1e13),
    layer_s=st.floats(0, 1e-3),
)
PROBLEMS = st.builds(
    Problem,
    T=st.integers(0, 5000),
    D=st.just(64),
    F=st.just(96),
    E=st.just(12),
    K=st.integers(1, 12),
    ranks=st.integers(1, 12),
    load=st.sampled_from(["uniform", "zipf:1.2", "hot", "dirichlet:0.1"]),
    capacity_factor=st.sampled_from([None, 0.5, 1.25]),
    mode=st.sampled_from(["forward", "train"]),
)


@given(problem=PROBLEMS, where=MACHINES, chunks=st.sampled_from([1, 2, 8]), groups=st.sampled_from([1, 5]))
def test_whatever_the_figures_are_parts_add_up_and_shares_are_shares(
    problem: Problem, where: MachineDescription, chunks: int, groups: int
) -> None:
    asked = setting(problem, where, chunks=chunks, groups=groups)
    for name in FLOWS:
        if unsupported(name, asked.layout):
            continue
        found = forecast(name, asked)
        assert found.seconds >= max(0.0, found.balanced_s * (1 - 1e-9))
        assert found.seconds == pytest.approx(sum(part.seconds for part in found.parts) - found.hidden_s)
        assert all(part.seconds >= part.balanced_s * (1 - 1e-9) for part in found.parts)
        assert 0 <= found.hidden_s <= sum(part.seconds for part in found.parts) / 2 + 1e-12
        assert -1e-9 <= found.straggling <= 1
        assert found.memory.weights >= problem.weight_bytes // problem.ranks
        assert found.bound in {part.name for part in found.parts}


@given(problem=PROBLEMS, where=MACHINES)
def test_more_groups_wait_for_a_slower_straggler(problem: Problem, where: MachineDescription) -> None:
    one, many = (forecast("alltoall", setting(problem, where, groups=groups)) for groups in (1, 64))
    if where.ranks_per_node % problem.ranks:  # else the groups share a node, too
        assert many.seconds >= one.seconds * (1 - 1e-9)
        assert many.balanced_s == pytest.approx(one.balanced_s)


def test_one_hot_expert_is_waited_for() -> None:
    where = machine("dgx-h100")
    even, hot = (
        forecast(
            "alltoall", setting(model("Mixtral-8x7B").problem(T=8 * 4096, ranks=8, load=load, dtype="bfloat16"), where)
        )
        for load in ("uniform", "hot")
    )
    assert even.straggling < 0.1
    assert hot.straggling > 0.5
    assert hot.memory.buffers > 2 * even.memory.buffers


def test_large_messages_do_without_a_second_hop_and_small_ones_like_it() -> None:
    """Tutel reports this of 2DH: fewer messages win while latencies count, copies and the other hop lose later."""
    where = machine("dgx-h100")
    times = {}
    for tokens in (16, 16384):
        problem = model("DeepSeek-V3").problem(T=256 * tokens, ranks=256, dtype="bfloat16")
        times[tokens] = {name: forecast(name, setting(problem, where)).seconds for name in ("alltoall", "hierarchical")}
    assert times[16]["hierarchical"] < times[16]["alltoall"]
    assert times[16384]["hierarchical"] > times[16384]["alltoall"]


def test_tokens_that_go_nearly_everywhere_may_as_well_go_to_all() -> None:
    problem = Problem(T=8 * 64, D=1024, F=64, E=40, K=32, ranks=8)
    sent = {name: forecast(name, setting(problem, machine("dgx-h100"))).sent["node"] for name in FLOWS}
    assert sent["allgather"] < sent["alltoall"]
    assert sent["allgather"] == pytest.approx(sent["alltoall_dedup"], rel=0.01)


def test_links_that_the_machine_lacks_are_named() -> None:
    where = cluster(ranks_per_node=2).model_copy(update={"across": None})
    problem = Problem(T=64, D=8, F=8, E=4, K=2, ranks=4)
    with pytest.raises(InvalidMachine, match="links across nodes"):
        forecast("alltoall", setting(problem, where))
    assert forecast("alltoall", setting(problem.replace(ranks=2), where)).seconds > 0


def test_the_largest_layout_takes_well_under_a_second() -> None:
    """65,536 ranks and 2048 experts: 32 groups of 2048 ranks."""
    layout = Layout.of(65_536, experts=2048, ranks_per_node=8)
    problem = model("Switch-C-2048").problem(T=4096 * layout.ranks, ranks=layout.ranks, dtype="bfloat16", load="zipf:1")
    asked = Setting(machine=machine("dgx-h100"), layout=layout, problem=problem, choices=choices(problem))
    start = time.perf_counter()
    forecast("alltoall_dedup", asked)
    assert time.perf_counter() - start < 1
