"""Traffic of dispatchers: equal to the count from routes, to counts by hand, and to published ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.catalog import KERNELS
from moebench.kernels.expert_parallel.dispatcher import ExpertParallel
from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.problem.popularity import choices
from moebench.kernels.problem.routing import Routing, within_capacity
from moebench.suites.prediction.collectives import Transfer
from moebench.suites.prediction.dispatcher_traffic import FLOWS, Flow, unsupported
from moebench.suites.prediction.layout import Layout
from moebench.suites.prediction.machine import LinkClass
from moebench.suites.prediction.routing_distribution import RoutingDistribution

CPU = torch.device("cpu")
DRAWS = 40


def distribution(ranks: int, ranks_per_node: int, **fields: object) -> RoutingDistribution:
    problem = Problem(T=8 * ranks, D=1, F=1, E=12, K=3, ranks=ranks).replace(**fields)
    return RoutingDistribution(problem, Layout(ranks=ranks, ranks_per_node=ranks_per_node), choices(problem))


@pytest.mark.parametrize(
    ("chunks", "fields"),
    [(1, {}), (2, {"load": "zipf:1", "mode": "train"}), (2, {"capacity_factor": 1.0, "mode": "train"})],
)
@pytest.mark.parametrize(("ranks", "ranks_per_node"), [(4, 2), (6, 3), (3, 1), (5, 2)])
@pytest.mark.parametrize("dispatcher", FLOWS)
def test_bytes_are_what_the_dispatcher_itself_calculates_from_routes(
    dispatcher: str,
    ranks: int,
    ranks_per_node: int,
    fields: dict[str, object],
    chunks: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Simulate the traffic of every rank and link class, averaged over draws; shares no code with the dispatchers."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks_per_node))
    problem = distribution(ranks, ranks_per_node, **fields).problem
    asked = RoutingDistribution(problem, Layout(ranks=ranks, ranks_per_node=ranks_per_node), choices(problem), chunks)
    if unsupported(dispatcher, asked.layout):
        return
    flow, kernel = FLOWS[dispatcher](asked), KERNELS.load(dispatcher)
    assert isinstance(kernel, ExpertParallel)
    drawn = [_bytes(kernel, problem, chunks, seed) for seed in range(DRAWS)]
    moved = flow.transfers(problem)
    for place, link in enumerate(get_args(LinkClass)):
        found = np.stack([of_draw[place] for of_draw in drawn])
        expected_R = np.zeros(ranks)
        for times, transfers in ((1, flow.counts), (chunks, moved)):
            for one in transfers:
                expected_R += times * (one.out[link].mean_R if link in one.out else 0.0)
        np.testing.assert_allclose(expected_R, found.mean(0), atol=5 * found.std(0).max() / DRAWS**0.5 + 1e-6)


def _bytes(kernel: ExpertParallel, problem: Problem, chunks: int, seed: int) -> np.ndarray:
    """Return the rows that every rank sends for one draw of tokens, (link classes, R)."""
    routing = draw_routes(problem, seed=seed, device=CPU)
    if problem.capacity is not None:
        parts = routing.ids_TK.split(problem.tokens_per_rank)
        kept = [
            within_capacity(
                Routing(ids_TK=ids, gates_TK=torch.ones(ids.shape), experts=problem.E), problem.drop, problem.capacity
            ).ids_TK
            for ids in parts
        ]
        routing = Routing(ids_TK=torch.cat(kept), gates_TK=routing.gates_TK, experts=problem.E)
    counters = kernel.form(problem).traffic_model.count(problem, routing, chunks=chunks, shadows=0)
    return np.array([[counter.bytes[link] for counter in counters] for link in ("self", "node", "across")])


DEMANDS = st.builds(
    distribution,
    ranks=st.integers(1, 12),
    ranks_per_node=st.integers(1, 4),
    load=st.sampled_from(["uniform", "zipf:1.2", "hot"]),
    capacity_factor=st.sampled_from([None, 0.5, 1.25]),
    mode=st.sampled_from(["forward", "train"]),
)


def transfers(asked: RoutingDistribution) -> Iterator[tuple[Flow, tuple[Transfer, ...]]]:
    for name, made in FLOWS.items():
        if not unsupported(name, asked.layout):
            flow = made(asked)
            yield flow, flow.transfers(asked.problem)


@given(asked=DEMANDS)
def test_what_is_sent_is_received_and_comes_back(asked: RoutingDistribution) -> None:
    for flow, sent in transfers(asked):
        for one in sent:
            for name in one.out:
                assert one.out[name].mean == pytest.approx(one.into[name].mean, abs=1e-6)
        there = sum(amount.mean for name, amount in flow.there[0].out.items() if name != "across")
        assert flow.computed.mean <= asked.problem.K * asked.tokens + 1e-9
        assert there >= 0
        for leg, mirror in zip(flow.there, reversed(flow.back), strict=True):
            if not leg.ring:
                assert {name: amount.mean for name, amount in leg.out.items()} == {
                    name: pytest.approx(amount.mean) for name, amount in mirror.into.items()
                }


@given(asked=DEMANDS)
def test_one_rank_or_one_node_sends_nothing_further(asked: RoutingDistribution) -> None:
    for _, sent in transfers(asked):
        for one in sent:
            if asked.layout.nodes == 1:
                assert "across" not in one.out or not one.out["across"].mean_R.any()
            if asked.layout.ranks == 1:
                assert not any(amount.mean_R.any() for name, amount in one.out.items() if name != "self")


def amounts(transfer: Transfer) -> dict[str, list[float]]:
    return {name: amount.mean_R.tolist() for name, amount in transfer.out.items()}


def test_a_padded_all_to_all_by_hand() -> None:
    """4 ranks on 2 nodes, 3 experts each, C = ceil(1 · 8 · 3 / 12) = 2: 6 rows to everyone."""
    flow = FLOWS["alltoall"](distribution(4, 2, capacity_factor=1.0))
    assert amounts(flow.there[0]) == {"self": [6.0] * 4, "node": [6.0] * 4, "across": [12.0] * 4}
    assert flow.counts == ()
    assert flow.there[0].messages == {"node": 1, "across": 2}
    assert flow.received.mean == 24


def test_experts_that_do_not_divide_pad_to_the_fullest_rank() -> None:
    """5 ranks, 12 experts: 3 on the first two, and room for 3 on all; the last node has one rank."""
    flow = FLOWS["alltoall"](distribution(5, 2, capacity_factor=1.0))
    assert amounts(flow.there[0])["across"] == [18.0] * 4 + [24.0]
    assert amounts(flow.there[0])["node"] == [6.0] * 4 + [0.0]


def test_a_padded_hierarchical_exchange_by_hand() -> None:
    """The same 6 rows of everyone to everyone: 2 · 6 to the peer, then 2 · 6 to the other node in one message."""
    flow = FLOWS["hierarchical"](distribution(4, 2, capacity_factor=1.0))
    first, second = flow.there
    assert amounts(first) == {"self": [12.0] * 4, "node": [12.0] * 4}
    assert amounts(second) == {"self": [12.0] * 4, "across": [12.0] * 4}
    assert (first.messages, second.messages) == ({"node": 1}, {"across": 1})
    assert [leg.messages for leg in flow.back] == [{"across": 1}, {"node": 1}]


def test_counts_by_hand() -> None:
    direct = FLOWS["alltoall"](distribution(6, 3)).counts
    assert [amounts(one) for one in direct] == [{"self": [8.0] * 6, "node": [16.0] * 6, "across": [24.0] * 6}]
    inside, across = FLOWS["hierarchical"](
        distribution(6, 3)
    ).counts  # 2 int64 to each of 3 peers, then 3 to each of 2 nodes
    assert amounts(inside) == {"self": [16.0] * 6, "node": [32.0] * 6}
    assert amounts(across) == {"self": [24.0] * 6, "across": [24.0] * 6}


def test_a_ring_leaves_each_node_once() -> None:
    flow = FLOWS["allgather"](distribution(4, 2))
    (gather,), (sums_back,) = flow.there, flow.back
    assert amounts(gather) == {"self": [8.0] * 4, "node": [24.0, 0.0, 24.0, 0.0], "across": [0.0, 24.0, 0.0, 24.0]}
    assert gather.into["node"].mean_R.tolist() == [0.0, 24.0, 0.0, 24.0]
    assert sum(gather.messages.values()) == 3
    assert amounts(sums_back) == {"self": [8.0] * 4, "node": [8.0] * 4, "across": [16.0] * 4}


def test_a_ring_is_padded_to_the_fullest_rank() -> None:
    flow = FLOWS["allgather"](distribution(4, 2, T=29))
    assert flow.there[0].out["self"].mean == 8


@pytest.mark.parametrize("nodes", [2, 4, 8])
def test_distinct_remote_ranks_are_as_published_for_many_experts(nodes: int) -> None:
    """(Z − 1) (1 − (1 − 1/Z)^k) of Z ranks, for k draws with replacement (DeepEP's count of sends)."""
    problem = Problem(T=nodes, D=1, F=1, E=4096, K=8, ranks=nodes)
    asked = RoutingDistribution(problem, Layout(ranks=nodes, ranks_per_node=1), choices(problem))
    sent = FLOWS["alltoall_dedup"](asked).there[0].out["across"].mean
    assert sent == pytest.approx((nodes - 1) * (1 - (1 - 1 / nodes) ** 8), rel=2e-3)


def test_a_balanced_all_to_all_sends_all_but_one_share() -> None:
    """B (N − 1) / N² of B rows in all."""
    asked = distribution(4, 1, T=4000)
    rows = asked.problem.N
    assert FLOWS["alltoall"](asked).there[0].out["across"].mean == pytest.approx(rows * 3 / 16, rel=1e-6)


def test_bytes_of_a_training_step_by_hand() -> None:
    """float32 rows of D = 1 with an id and a gate: 12 there, 4 back, 4 for its gradient, 4 + 4 back to the token."""
    asked = distribution(4, 2, mode="train")
    flow = FLOWS["alltoall"](asked)
    rows = flow.there[0].out["node"].mean
    sent = [one.out["node"].mean for one in flow.transfers(asked.problem)]
    assert sent == pytest.approx([12 * rows, 4 * rows, 4 * rows, 8 * rows])
    gathered = FLOWS["allgather"](asked)
    blocks = gathered.there[0].out["node"].mean
    dispatched = gathered.transfers(asked.problem)[0].out["node"].mean
    assert dispatched == (4 + 3 * 8) * blocks  # the ids and gates of all K choices


def test_hierarchical_wants_equal_nodes() -> None:
    assert unsupported("hierarchical", Layout(ranks=5, ranks_per_node=2)) == (
        "needs as many ranks on every node, 5 are not a multiple of 2"
    )
    assert unsupported("hierarchical", Layout(ranks=3, ranks_per_node=8)) is None
    assert unsupported("alltoall", Layout(ranks=5, ranks_per_node=2)) is None


def test_every_dispatcher_has_a_flow() -> None:
    """A dispatcher that is added without its flow could be measured and not predicted."""
    assert set(FLOWS) == {name for name in KERNELS.names() if KERNELS.load(name).between_ranks}
