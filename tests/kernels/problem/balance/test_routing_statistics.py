"""Statistics of routes against plain counting, and their limits."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.oracle import drop
from moebench.kernels.problem import Problem
from moebench.kernels.problem.balance.routing_statistics import (
    dropped_gates,
    gini,
    importance_E,
    max_over_mean,
    padding,
    sufficient_capacity_factor,
)
from moebench.kernels.problem.routing import NO_ROUTE, Routing

counts = st.lists(st.integers(0, 300), min_size=1, max_size=12)


@st.composite
def routings(draw: st.DrawFn) -> Routing:
    T, E = draw(st.integers(0, 12)), draw(st.integers(1, 5))
    K = draw(st.integers(1, E))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    ids_TK = torch.rand(T, E, generator=generator).topk(K).indices.int()
    ids_TK = ids_TK.masked_fill(torch.rand(T, K, generator=generator) < 0.2, NO_ROUTE)
    gates_TK = torch.rand(T, K, generator=generator).masked_fill(ids_TK == NO_ROUTE, torch.nan)
    return Routing(ids_TK=ids_TK, gates_TK=gates_TK, experts=E)


@given(rows=counts)
def test_gini_is_the_mean_difference_of_all_pairs_over_twice_the_mean(rows: list[int]) -> None:
    mean = sum(rows) / len(rows)
    expected = sum(abs(a - b) for a in rows for b in rows) / (2 * len(rows) ** 2 * mean) if mean else 0
    assert gini(torch.tensor(rows)) == pytest.approx(expected, abs=1e-9)


@given(rows=counts, tile=st.sampled_from([1, 16, 64, 128]))
def test_padding_adds_less_than_a_tile_to_every_expert_that_has_rows(rows: list[int], tile: int) -> None:
    added = padding(torch.tensor(rows), tile) * sum(rows)
    assert added == pytest.approx(sum(-count % tile for count in rows))
    assert added <= (tile - 1) * sum(count > 0 for count in rows) + 1e-9


def test_one_expert_with_all_rows_is_the_extreme_of_every_measure() -> None:
    rows_E = torch.tensor([0, 40, 0, 0])
    assert max_over_mean(rows_E) == 4
    assert gini(rows_E) == 0.75
    assert (max_over_mean(torch.full((4,), 10)), gini(torch.full((4,), 10))) == (1, 0)
    assert (max_over_mean(torch.zeros(4)), gini(torch.zeros(4)), padding(torch.zeros(4).long(), 16)) == (1, 0, 0)


@given(routing=routings())
def test_importance_sums_the_gates_of_routes_that_are_there(routing: Routing) -> None:
    expected = [0.0] * routing.experts
    for ids, gates in zip(routing.ids_TK.tolist(), routing.gates_TK.tolist(), strict=True):
        for expert, gate in zip(ids, gates, strict=True):
            if expert != NO_ROUTE:
                expected[expert] += gate
    assert importance_E(routing).tolist() == pytest.approx(expected, rel=1e-5)


@given(routing=routings(), factor=st.sampled_from([0.2, 0.6, 1.0, 4.0]), ranks=st.integers(1, 3))
def test_a_capacity_drops_gate_weight_exactly_where_it_drops_routes(
    routing: Routing, factor: float, ranks: int
) -> None:
    T, K = routing.ids_TK.shape
    ranks = min(ranks, routing.experts)
    problem = Problem(T=T, D=1, F=1, E=routing.experts, K=K, capacity_factor=factor, ranks=ranks)
    kept = drop(problem, routing)
    lost = dropped_gates(routing, kept)
    assert 0 <= lost <= 1
    dropped = (routing.ids_TK != NO_ROUTE) & (kept.ids_TK == NO_ROUTE)
    assert (lost > 0) == bool(dropped.any())


@given(routing=routings(), ranks=st.integers(1, 3))
def test_sufficient_capacity_factor_drops_nothing_and_a_smaller_one_does(routing: Routing, ranks: int) -> None:
    T, K = routing.ids_TK.shape
    problem = Problem(T=T, D=1, F=1, E=routing.experts, K=K, ranks=min(ranks, routing.experts))
    factor = sufficient_capacity_factor(problem, routing)
    if factor == 0:
        return
    enough = drop(problem.replace(capacity_factor=factor), routing)
    assert torch.equal(enough.ids_TK, routing.ids_TK)
    fullest = round(factor * problem.tokens_per_rank * K / problem.E)
    if fullest > 1:
        fewer = problem.replace(capacity_factor=factor * (fullest - 1) / fullest * 0.999)
        assert not torch.equal(drop(fewer, routing).ids_TK, routing.ids_TK)


def test_gates_of_absent_routes_are_not_read() -> None:
    routing = Routing(
        ids_TK=torch.tensor([[0, -1]], dtype=torch.int32), gates_TK=torch.tensor([[0.5, torch.nan]]), experts=2
    )
    nothing = dataclasses.replace(routing, ids_TK=torch.full((1, 2), -1, dtype=torch.int32))
    assert importance_E(routing).tolist() == [0.5, 0]
    assert dropped_gates(routing, nothing) == 1
