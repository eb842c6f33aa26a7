"""Plans: every route is sent exactly once, to the rank that holds its expert, and comes back to its token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.expert_parallel.planned_traffic import (
    Rows,
    rows_by_rank,
    rows_by_route,
    rows_by_slot,
    rows_for_all,
)
from moebench.kernels.expert_parallel.send_plan import NOWHERE, Owners, SendPlan, by_rank, by_route, by_slot, for_all
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import NO_ROUTE, Routing, within_capacity


@st.composite
def cases(draw: st.DrawFn) -> tuple[Problem, Routing, int]:
    """Draw a problem, a rank's routes within capacity, some missing, and a number of chunks."""
    E = draw(st.integers(1, 7))
    ranks, K, T = draw(st.integers(1, E)), draw(st.integers(1, E)), draw(st.integers(0, 9))
    problem = Problem(T=T * ranks, D=1, F=1, E=E, K=K, ranks=ranks, capacity_factor=draw(st.sampled_from([0.3, 1.0])))
    # Of distinct experts, as routers choose them.
    rows = [draw(st.permutations(range(E)))[:K] for _ in range(T)]
    missing = draw(st.lists(st.booleans(), min_size=T * K, max_size=T * K))
    ids_TK = torch.tensor(rows, dtype=torch.int32).view(T, K)
    ids_TK[torch.tensor(missing, dtype=torch.bool).view(T, K)] = NO_ROUTE
    routing = Routing(ids_TK=ids_TK, gates_TK=torch.rand(T, K), experts=E)
    return problem, within_capacity(routing, problem.drop, problem.capacity or 0), draw(st.integers(1, 4))


def delivered(problem: Problem, plan: SendPlan, routing: Routing) -> list[tuple[int, int]]:
    """Return the routes that reach the rank of their expert, as (rank, route), from the target of each row."""
    owner_N = Owners.of(problem).of_routes(routing.ids_TK).flatten().tolist()
    found = []
    for chunk, send_R in zip(plan.chunks, plan.send_CR, strict=True):
        rank_M = [rank for rank, rows in enumerate(send_R) for _ in range(rows)]
        assert len(rank_M) == chunk.stop - chunk.start
        for rank, token, routes in zip(
            rank_M, plan.token_M[chunk].tolist(), plan.route_Mk[chunk].tolist(), strict=True
        ):
            there = [route for route in routes if route != NOWHERE]
            assert all(route // routing.chosen == token for route in there)
            found += [(rank, route) for route in there if owner_N[route] == rank]
            assert all(owner_N[route] == rank for route in there)
    return found


@pytest.mark.parametrize("planner", [by_route, by_rank, by_slot])
@given(case=cases())
def test_every_route_is_delivered_once_where_its_expert_is(planner: object, case: tuple[Problem, Routing, int]) -> None:
    assert callable(planner)
    problem, routing, chunks = case
    plan = planner(problem, routing, Owners.of(problem), chunks)
    routes = (routing.ids_TK.flatten() != NO_ROUTE).nonzero()[:, 0].tolist()
    assert sorted(route for _, route in delivered(problem, plan, routing)) == routes
    assert torch.equal(plan.back_Mk, plan.route_Mk)
    assert len(plan.chunks) == chunks


@given(case=cases())
def test_of_an_all_gather_every_rank_sends_home_its_routes_of_every_token(case: tuple[Problem, Routing, int]) -> None:
    problem, routing, chunks = case
    plan = for_all(problem, routing, Owners.of(problem), chunks)
    assert plan.token_M.tolist() == list(range(len(routing.ids_TK)))
    home = plan.back_Mk[plan.back_Mk != NOWHERE].tolist()
    assert sorted(home) == (routing.ids_TK.flatten() != NO_ROUTE).nonzero()[:, 0].tolist()
    assert sorted(plan.back_M.tolist()) == sorted(plan.token_M.tolist() * problem.ranks)


@given(case=cases())
def test_a_token_goes_to_a_rank_once_whatever_number_of_its_experts_is_there(
    case: tuple[Problem, Routing, int],
) -> None:
    problem, routing, chunks = case
    owners = Owners.of(problem)
    plan = by_rank(problem, routing, owners, chunks)
    owner_TK = owners.of_routes(routing.ids_TK).tolist()
    assert len(plan.token_M) == sum(len(set(row) - {NOWHERE}) for row in owner_TK)


@given(case=cases())
def test_slots_are_equal_splits_whatever_the_routes(case: tuple[Problem, Routing, int]) -> None:
    problem, routing, chunks = case
    plan = by_slot(problem, routing, Owners.of(problem), chunks)
    slots = -(-problem.E // problem.ranks)
    assert sum(send_R[0] for send_R in plan.send_CR) == slots * (problem.capacity or 0)
    assert all(len(set(send_R)) == 1 for send_R in plan.send_CR)


@pytest.mark.parametrize(
    ("planner", "rows"),
    [(by_route, rows_by_route), (by_rank, rows_by_rank), (by_slot, rows_by_slot), (for_all, rows_for_all)],
)
@given(case=cases())
def test_calculated_rows_are_those_of_the_plan(planner: object, rows: Rows, case: tuple[Problem, Routing, int]) -> None:
    assert callable(planner)
    problem, routing, chunks = case
    owners = Owners.of(problem)
    plan = planner(problem, routing, owners, chunks)
    calculated_CRR = rows(problem, owners, [routing.ids_TK] * problem.ranks, chunks)
    assert calculated_CRR[:, 0].tolist() == plan.send_CR


def test_owners_know_where_an_expert_is() -> None:
    owners = Owners([2, 1, 1])
    assert [owners.home(expert) for expert in range(4)] == [(0, 0), (0, 1), (1, 0), (2, 0)]
    assert owners.of_routes(torch.tensor([[0, 3], [NO_ROUTE, 2]])).tolist() == [[0, 2], [NOWHERE, 1]]
