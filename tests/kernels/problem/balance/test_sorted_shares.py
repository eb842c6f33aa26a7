"""Sorted shares of drawn routes are those to expect, and tell the loads apart by which they were drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from moebench.kernels.module.observed_load import LEAST_ROWS, LOADS, ROWS_OF_EXPERT
from moebench.kernels.problem import InvalidProblem, Problem
from moebench.kernels.problem.balance.sorted_shares import TOKENS, expected_shares, nearest_load, sorted_shares
from moebench.kernels.problem.draw_routes import draw_routes

CPU = torch.device("cpu")


def drawn(load: str, E: int, K: int, tokens: int, seed: int) -> np.ndarray:
    problem = Problem(T=tokens, D=1, F=1, E=E, K=K, load=load, router="softmax_topk")
    return sorted_shares(draw_routes(problem, seed=seed, device=CPU).counts_E().numpy())


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=40))
def test_shares_fall_sum_to_one_and_forget_who_is_who(counts: list[int]) -> None:
    shares_E = sorted_shares(counts)
    assert (np.diff(shares_E) <= 0).all()
    assert_allclose(shares_E.sum(), bool(sum(counts)), atol=1e-12)
    assert (sorted_shares(counts[::-1]) == shares_E).all()


@pytest.mark.parametrize("load", [*LOADS, "empty:0.5", "modalities:0.9"])
@pytest.mark.parametrize(("tokens", "near"), [(16, 0.06), (256, 0.02)])
def test_expected_shares_are_the_mean_of_drawn_ones(load: str, tokens: int, near: float) -> None:
    """Chance makes the fullest of even experts fuller than the mean, which both know."""
    mean_E = np.mean([drawn(load, 32, 4, tokens, seed) for seed in range(40)], axis=0)
    found_E = expected_shares(load, E=32, K=4, tokens=tokens)
    assert np.abs(mean_E - found_E).sum() / 2 < near
    if load == "uniform":
        assert mean_E[0] * 32 > 1.2


def test_beyond_some_thousand_tokens_chance_plays_no_part() -> None:
    same = [expected_shares("zipf:1", E=16, K=2, tokens=tokens) for tokens in (TOKENS, 2 * TOKENS, 10**9)]
    assert all((one == same[0]).all() for one in same)


@pytest.mark.parametrize(("E", "K"), [(8, 2), (64, 8), (256, 8)])
def test_a_window_of_the_least_rows_shows_by_which_load_it_was_drawn(E: int, K: int) -> None:
    tokens = max(LEAST_ROWS, ROWS_OF_EXPERT * E) // K
    off = []
    for seed in range(4):
        for place, load in enumerate(LOADS):
            told = nearest_load(drawn(load, E, K, tokens, seed), LOADS, K=K, tokens=tokens)
            off.append(abs(LOADS.index(told) - place))
    assert off.count(0) >= 0.9 * len(off)
    assert max(off) <= 1, "what is mistaken is mistaken for a neighbour"


def test_of_equally_near_loads_it_is_the_first_and_without_any_there_is_an_error() -> None:
    assert nearest_load(sorted_shares([5]), LOADS, K=1, tokens=5) == "uniform"
    with pytest.raises(ValueError, match="empty"):
        nearest_load(sorted_shares([5]), [], K=1, tokens=5)


def test_a_load_that_is_none_is_named() -> None:
    with pytest.raises(InvalidProblem, match="'zipf'"):
        expected_shares("zipf", E=4, K=2, tokens=8)
