"""Rows that tokens send to ranks: means, variances and drops compared with the real routers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.problem.popularity import choices
from moebench.kernels.problem.routing import queue_positions
from moebench.suites.prediction.layout import Layout
from moebench.suites.prediction.routing_distribution import RoutingDistribution

CPU = torch.device("cpu")
TOKENS = 20_000
LOADS = ["uniform", "zipf:1.2", "dirichlet:0.3", "hot", "empty:0.5"]
SHAPES = [(8, 2, 4), (60, 4, 8), (64, 8, 8), (16, 1, 4)]


def distribution(problem: Problem, ranks: int, ranks_per_node: int = 2) -> RoutingDistribution:
    layout = Layout(ranks=ranks, ranks_per_node=ranks_per_node)
    return RoutingDistribution(problem.replace(ranks=ranks), layout, choices(problem))


def rows(asked: RoutingDistribution, tokens: int, seed: int = 1) -> NDArray[np.int64]:
    """Return the number of routes of each token to each rank by the router, (T, R)."""
    ids_TK = draw_routes(asked.problem.replace(T=tokens, capacity_factor=None), seed=seed, device=CPU).ids_TK.numpy()
    rank_TK = np.where(ids_TK < 0, asked.layout.ranks, asked.owner_E[ids_TK])
    return np.stack([(rank_TK == rank).sum(1) for rank in range(asked.layout.ranks)], axis=1)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize(("E", "K", "ranks"), SHAPES)
def test_rows_to_ranks_and_to_sets_of_them_are_as_the_router_sends_them(load: str, E: int, K: int, ranks: int) -> None:
    """Deviations of sums of choices within 10 %: the formula is exact for equally popular experts only."""
    asked = distribution(Problem(T=ranks * 64, D=1, F=1, E=E, K=K, load=load, seed=7), ranks)
    rows_TR = rows(asked, TOKENS)
    node_R = asked.layout.node_R
    others = asked.routes.whole.less(asked.routes.within(node_R))
    for per_token, sampled in (
        (asked.routes, rows_TR),
        (
            asked.routes.over(node_R),
            np.stack([rows_TR[:, node_R == n].sum(1) for n in range(node_R.max() + 1)], axis=1),
        ),
        (others, np.stack([rows_TR[:, node_R != n].sum(1) for n in node_R], axis=1)),
    ):
        amount = per_token.of(1)
        deviation = sampled.std(0)
        np.testing.assert_allclose(amount.mean_R, sampled.mean(0), atol=5 * deviation.max() / TOKENS**0.5 + 1e-6)
        np.testing.assert_allclose(np.sqrt(amount.variance_R), deviation, rtol=0.1, atol=0.03)


@pytest.mark.parametrize(("E", "K", "ranks"), SHAPES)
def test_deviations_are_exact_for_equally_popular_experts(E: int, K: int, ranks: int) -> None:
    """The hypergeometric variance K s (1 − s) (E − K) / (E − 1), s the share of a rank's experts."""
    asked = distribution(Problem(T=ranks, D=1, F=1, E=E, K=K), ranks)
    share_R = np.bincount(asked.owner_E) / E
    exact_R = K * share_R * (1 - share_R) * (E - K) / (E - 1)
    np.testing.assert_allclose(asked.routes.of(1).variance_R, exact_R, rtol=1e-6)
    np.testing.assert_allclose(asked.routes.of(100).variance_R, 100 * exact_R, rtol=1e-6)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize(("E", "K", "ranks"), SHAPES)
def test_ranks_that_a_token_visits_are_counted_once(load: str, E: int, K: int, ranks: int) -> None:
    asked = distribution(Problem(T=ranks * 64, D=1, F=1, E=E, K=K, load=load, seed=7), ranks)
    visits_TR = rows(asked, TOKENS) > 0
    visited = asked.pairs.whole.of(1)
    np.testing.assert_allclose(asked.pairs.of(1).mean_R, visits_TR.mean(0), atol=0.02)
    assert visited.mean == pytest.approx(visits_TR.sum(1).mean(), rel=0.01)
    deviation = visits_TR.sum(1).std()
    assert 0.9 * deviation - 0.05 <= visited.variance_R[0] ** 0.5 <= 1.8 * deviation + 0.05  # never much too small


def kept(asked: RoutingDistribution, draws: int) -> NDArray[np.bool_]:
    """Return whether a rank's token keeps a route to each expert, (draws, T / R, E)."""
    one = asked.problem.replace(T=asked.problem.T // asked.layout.ranks, ranks=1, capacity_factor=None)
    kept_STE, capacity = np.zeros((draws, one.T, one.E), dtype=np.bool_), asked.problem.capacity or 0
    for seed, kept_TE in enumerate(kept_STE):
        routing = draw_routes(one, seed=seed, device=CPU)
        stays_TK = queue_positions(routing, "first_come") < capacity
        np.put_along_axis(kept_TE, routing.ids_TK.long().numpy(), stays_TK.numpy(), axis=1)
    return kept_STE


@pytest.mark.parametrize("load", ["uniform", "zipf:1.2", "hot"])
@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_a_capacity_drops_what_the_router_drops(load: str, factor: float) -> None:
    draws = 100
    asked = distribution(Problem(T=4 * 64, D=1, F=1, E=16, K=2, load=load, capacity_factor=factor, seed=7), 4)
    kept_STE = kept(asked, draws)
    expected_E = asked.tokens * asked.choices.included_E * asked.kept_E
    strays = 5 * kept_STE.sum(1).std(0).max() / draws**0.5 + 1e-6
    np.testing.assert_allclose(expected_E, kept_STE.sum(1).mean(0), atol=strays)
    assert (expected_E <= (asked.problem.capacity or 0) + 1e-9).all()
    visits = [kept_STE[:, :, asked.owner_E == rank].any(2).sum(1).mean() for rank in range(4)]
    np.testing.assert_allclose(asked.pairs.of(asked.tokens).mean_R, visits, rtol=0.05, atol=0.6)


def test_without_a_capacity_everything_is_kept() -> None:
    asked = distribution(Problem(T=64, D=1, F=1, E=16, K=2), 4)
    assert (asked.kept_E == 1).all()


def test_experts_are_touched_as_often_as_some_token_chooses_them() -> None:
    asked = distribution(Problem(T=8, D=1, F=1, E=32, K=2, load="zipf:0.5"), 4)
    found = [(rows_E > 0) for rows_E in (_experts(asked, seed) for seed in range(200))]
    expected_R = np.stack([[touched[asked.owner_E == rank].sum() for rank in range(4)] for touched in found]).mean(0)
    np.testing.assert_allclose(asked.touched.mean_R, expected_R, atol=0.3)


def _experts(asked: RoutingDistribution, seed: int) -> NDArray[np.int64]:
    return draw_routes(asked.problem, seed=seed, device=CPU).counts_E().numpy()


def test_no_tokens_ask_for_nothing() -> None:
    asked = distribution(Problem(T=0, D=1, F=1, E=8, K=2, capacity_factor=1.0), 4)
    assert asked.routes.of(asked.tokens).mean == 0
    assert asked.touched.mean == 0
