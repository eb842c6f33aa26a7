"""Expected rows of experts: they add up, and are near those that are drawn."""

from __future__ import annotations

import pytest
import torch

from moebench.kernels.cost_model.expert_rows import expected_routing, rows_of_experts, skewed_routing
from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.problem.routing import within_capacity

CPU = torch.device("cpu")
MANY = Problem(T=512, D=8, F=8, E=128, K=8)


@pytest.mark.parametrize("load", ["uniform", "zipf:1", "hot", "dirichlet:0.1"])
@pytest.mark.parametrize("T", [0, 1, 7, 512, 8192])
@pytest.mark.parametrize(("E", "K"), [(1, 1), (8, 2), (8, 8), (128, 8), (128, 127)])
def test_every_route_has_an_expert_and_none_has_more_than_all_tokens(T: int, E: int, K: int, load: str) -> None:
    rows = rows_of_experts(expected_routing(MANY.replace(T=T, E=E, K=K, load=load)))
    assert (len(rows), sum(rows)) == (E, T * K)
    assert all(0 <= count <= T for count in rows)


@pytest.mark.parametrize("load", ["uniform", "zipf:0.5", "zipf:1.2", "hot", "empty:0.5", "modalities:0.8", "text"])
@pytest.mark.parametrize("capacity", [None, 1.0])
def test_they_are_near_those_that_are_drawn(load: str, capacity: float | None) -> None:
    """Compared are the fullest, those with rows and all rows that are kept, over a few draws."""
    problem = MANY.replace(load=load, capacity_factor=capacity)
    drawn = [draw_routes(problem, seed=seed, device=CPU) for seed in range(5)]
    if problem.capacity is not None:
        drawn = [within_capacity(routing, problem.drop, problem.capacity) for routing in drawn]
    counts = torch.stack([routing.counts_E() for routing in drawn]).double()
    rows = torch.tensor(rows_of_experts(expected_routing(problem))).double()
    assert rows.max() == pytest.approx(float(counts.max(1).values.mean()), rel=0.1)
    assert (rows > 0).sum() == pytest.approx(float((counts > 0).sum(1).double().mean()), rel=0.1)
    assert rows.sum() == pytest.approx(float(counts.sum(1).mean()), rel=0.05)


@pytest.mark.parametrize("fullest", [8, 100, 512])
def test_one_expert_may_have_more_than_the_others(fullest: int) -> None:
    rows = rows_of_experts(skewed_routing(MANY.replace(E=16), fullest))
    assert (len(rows), sum(rows), rows[0]) == (16, 4096, fullest)
    assert max(rows[1:]) - min(rows[1:]) <= 1
    assert skewed_routing(MANY, fullest).counts_E().sum() == MANY.N
