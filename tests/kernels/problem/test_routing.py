"""Orders of routes: grouping is a stable permutation, and queues agree with a plain simulation."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.oracle import drop
from moebench.kernels.problem import DropPolicy, Problem
from moebench.kernels.problem.routing import (
    NO_ROUTE,
    Routing,
    count_routes,
    group_by_expert,
    queue_positions,
    with_every_route,
    within_capacity,
)
from moebench.kernels.problem.shard import split_evenly

GATES = [0.0, 0.125, 0.25, 0.5, 0.75, math.nan]  # few values, so that tokens tie


@st.composite
def routings(draw: st.DrawFn) -> Routing:
    """Draw any routes: missing ones, twice the same expert in a row, no tokens at all."""
    T, K, experts = draw(st.integers(0, 12)), draw(st.integers(1, 4)), draw(st.integers(4, 6))
    ids = draw(st.lists(st.integers(NO_ROUTE, experts - 1), min_size=T * K, max_size=T * K))
    gates = draw(st.lists(st.sampled_from(GATES), min_size=T * K, max_size=T * K))
    return Routing(
        ids_TK=torch.tensor(ids, dtype=torch.int32).view(T, K),
        gates_TK=torch.tensor(gates, dtype=torch.float32).view(T, K),
        experts=experts,
    )


def simulated_positions(routing: Routing, policy: DropPolicy, ranks: int = 1) -> dict[tuple[int, int], int]:
    """Return the position of every route in its expert's queue by queueing them one at a time, rank by rank."""
    T, K = routing.ids_TK.shape
    rank_T = [rank for rank, size in enumerate(split_evenly(T, ranks)) for _ in range(size)]

    def turn(route: tuple[int, int]) -> tuple[float, ...]:
        t, k = route
        counted = [
            float(g) for g, e in zip(routing.gates_TK[t], routing.ids_TK[t], strict=True) if e >= 0 and not g.isnan()
        ]
        surest = max(counted, default=-math.inf) if policy == "gate_weight" else 0
        return (t, k) if policy == "first_come" else (k, -surest, t)

    waiting: defaultdict[tuple[int, int], int] = defaultdict(int)
    positions = {}
    for t, k in sorted(((t, k) for t in range(T) for k in range(K)), key=turn):
        expert = int(routing.ids_TK[t, k])
        if expert != NO_ROUTE:
            positions[t, k] = waiting[rank_T[t], expert]
            waiting[rank_T[t], expert] += 1
    return positions


@given(routing=routings())
def test_counts_are_those_of_a_tally(routing: Routing) -> None:
    flat = routing.ids_TK.flatten().tolist()
    counts = [flat.count(expert) for expert in range(routing.experts)]
    assert routing.counts_E().tolist() == counts
    assert routing.counts_E().dtype == torch.int64


def test_counts_ask_nothing_of_another_device() -> None:
    counts_E = count_routes(torch.empty(5, 2, dtype=torch.int32, device="meta"), 7)
    assert (counts_E.shape, counts_E.dtype, counts_E.device.type) == ((7,), torch.int64, "meta")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_counts_are_the_same_on_a_gpu() -> None:
    ids_TK = torch.randint(-1, 7, (50, 2), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(count_routes(ids_TK.cuda(), 7).cpu(), count_routes(ids_TK, 7))


@given(routing=routings())
def test_groups_are_a_stable_permutation_of_the_routes_without_the_missing_ones(routing: Routing) -> None:
    groups = group_by_expert(routing)
    flat = routing.ids_TK.flatten().tolist()
    by_expert = [[n for n, expert in enumerate(flat) if expert == e] for e in range(routing.experts)]
    assert groups.counts == [len(rows) for rows in by_expert]
    assert groups.route_N.tolist() == [n for rows in by_expert for n in rows]  # each expert's rows in token order
    assert groups.token_N.tolist() == [n // routing.chosen for n in groups.route_N.tolist()]
    assert groups.route_N.dtype == torch.int64


@given(routing=routings())
def test_slices_cover_the_rows_of_every_expert_that_has_some(routing: Routing) -> None:
    groups = group_by_expert(routing)
    slices = groups.slices()
    flat = routing.ids_TK.flatten()
    assert [expert for expert, _, _ in slices] == sorted({e for e in flat.tolist() if e != NO_ROUTE})
    assert [start for _, start, _ in slices] == [0, *(end for _, _, end in slices)][: len(slices)]
    for expert, start, end in slices:
        assert flat[groups.route_N[start:end]].tolist() == [expert] * (end - start)
    assert sum(end - start for _, start, end in slices) == len(groups.route_N)


@given(routing=routings(), policy=st.sampled_from(["first_come", "first_choices", "gate_weight"]))
def test_queue_positions_are_those_of_a_simulated_queue(routing: Routing, policy: DropPolicy) -> None:
    positions_TK = queue_positions(routing, policy)
    assert (positions_TK.shape, positions_TK.dtype) == (routing.ids_TK.shape, torch.int64)
    expected = simulated_positions(routing, policy)
    assert {route: int(positions_TK[route]) for route in expected} == expected


@given(
    routing=routings(),
    policy=st.sampled_from(["first_come", "first_choices", "gate_weight"]),
    factor=st.sampled_from([0.1, 0.5, 1.0, 1.25, 2.0]),
    ranks=st.integers(1, 4),
)
def test_drop_keeps_exactly_the_positions_below_the_capacity_of_each_rank(
    routing: Routing, policy: DropPolicy, factor: float, ranks: int
) -> None:
    T, K = routing.ids_TK.shape
    problem = Problem(T=T, D=1, F=1, E=routing.experts, K=K, capacity_factor=factor, drop=policy, ranks=ranks)
    kept = drop(problem, routing)
    assert problem.capacity is not None
    expected_TK = torch.full_like(routing.ids_TK, NO_ROUTE)
    for route, position in simulated_positions(routing, policy, ranks).items():
        if position < problem.capacity:
            expected_TK[route] = routing.ids_TK[route]
    assert torch.equal(kept.ids_TK, expected_TK)
    assert kept.gates_TK is routing.gates_TK
    if ranks == 1:
        assert torch.equal(kept.ids_TK, within_capacity(routing, policy, problem.capacity).ids_TK)


def test_gate_weight_serves_first_choices_first_and_the_surest_token_before_others() -> None:
    routing = Routing(
        ids_TK=torch.tensor([[1, 0], [0, 1], [0, 1]], dtype=torch.int32),
        gates_TK=torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]]),
        experts=2,
    )
    assert queue_positions(routing, "first_come").tolist() == [[0, 0], [1, 1], [2, 2]]
    assert queue_positions(routing, "gate_weight").tolist() == [[0, 2], [1, 2], [0, 1]]


@given(routing=routings())
def test_every_route_leads_to_a_chosen_expert_and_a_new_one_has_gate_zero(routing: Routing) -> None:
    filled, absent_TK = with_every_route(routing), routing.ids_TK == NO_ROUTE
    assert torch.equal(filled.ids_TK[~absent_TK], routing.ids_TK[~absent_TK])
    assert filled.gates_TK[~absent_TK].equal(routing.gates_TK[~absent_TK]) or routing.gates_TK.isnan().any()
    assert not filled.gates_TK[absent_TK].any()
    chosen = set(routing.ids_TK[~absent_TK].tolist())
    assert set(filled.ids_TK.flatten().tolist()) <= (chosen or {0})


@given(routing=routings())
def test_dropless_problem_drops_nothing(routing: Routing) -> None:
    T, K = routing.ids_TK.shape
    assert drop(Problem(T=T, D=1, F=1, E=routing.experts, K=K), routing) is routing


IDS, WEIGHTS = torch.zeros(3, 2, dtype=torch.int32), torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("ids", "gates", "words"),
    [
        (IDS, WEIGHTS[:, :1], r"\(3, 2\).*\(3, 1\)"),
        (IDS.flatten(), WEIGHTS.flatten(), r"\(6,\)"),
        (IDS.long(), WEIGHTS, "torch.int64"),
        (IDS, WEIGHTS.half(), "torch.float16"),
    ],
    ids=["shapes differ", "not two axes", "int64 ids", "float16 gates"],
)
def test_routing_of_the_wrong_shape_or_dtype_is_refused(ids: torch.Tensor, gates: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Routing(ids_TK=ids, gates_TK=gates, experts=4)
