"""Experts of token ids: fixed for an id, distinct, even over many ids, and the novel's window as the routers see it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fitting_problems import fitting
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_router_inputs, draw_routes
from moebench.kernels.problem.router import ROUTERS, Router
from moebench.kernels.problem.texts.hashed_experts import hashed_logits, novel_experts
from moebench.kernels.problem.texts.novel import novel_ids

CPU = torch.device("cpu")


@given(
    ids=st.lists(st.integers(0, 32767), max_size=20), E=st.integers(1, 70), more=st.integers(0, 9), seed=st.integers(0)
)
def test_logits_are_of_the_id_the_expert_and_the_seed_alone(ids: list[int], E: int, more: int, seed: int) -> None:
    seed %= 10**18
    token_T = np.array(ids, np.int64)
    logits_TE = hashed_logits(token_T, E + more, seed=seed)
    assert logits_TE.dtype == np.float32
    assert np.isfinite(logits_TE).all()
    for row, one in enumerate(ids):
        np.testing.assert_array_equal(hashed_logits(np.array([one]), E, seed=seed)[0], logits_TE[row, :E])


def test_logits_are_gumbel_noise_and_even_over_experts() -> None:
    logits_TE = hashed_logits(np.arange(32768), 16, seed=0).astype(np.float64)
    assert logits_TE.mean() == pytest.approx(np.euler_gamma, abs=0.01)
    assert logits_TE.var() == pytest.approx(np.pi**2 / 6, abs=0.02)
    counts = np.bincount(logits_TE.argmax(1), minlength=16)
    assert float(((counts - 2048) ** 2 / 2048).sum()) < 44.3  # chi-square of 15 degrees, by chance once in 10,000
    assert np.abs(np.corrcoef(logits_TE.T) - np.eye(16)).max() < 0.03
    again_TE = hashed_logits(np.arange(32768), 16, seed=1)
    assert abs(np.corrcoef(logits_TE.ravel(), again_TE.ravel())[0, 1]) < 0.01


def test_experts_of_an_id_are_what_they_always_were() -> None:
    assert novel_experts(64, 4, seed=0)[:3].tolist() == [[57, 41, 52, 13], [39, 7, 51, 0], [16, 43, 20, 7]]


@pytest.mark.parametrize("T", [0, 1, 500, 100_000])
def test_tokens_are_a_window_of_the_novel_in_its_order(T: int) -> None:
    """Seek the window in the novel, which is repeated after its end."""
    novel, windows = novel_ids(), set()
    for seed in range(5):
        token_T = draw_router_inputs(Problem(T=T, D=1, F=1, E=4, K=2, load="text"), seed=seed).token_T
        assert token_T is not None
        starts = np.flatnonzero(novel == token_T[0].item()) if T else range(1)
        places = (np.arange(start, start + T) % len(novel) for start in starts)
        assert any(np.array_equal(novel[place], token_T) for place in places)
        windows.add(token_T.numpy().tobytes())
    assert len(windows) == 5 or T < 2


def test_equal_tokens_choose_the_same_experts_and_another_seed_gives_them_others() -> None:
    problem = Problem(T=4096, D=1, F=1, E=64, K=4, load="text")
    token_T = draw_router_inputs(problem, seed=5).token_T
    assert token_T is not None
    ids_TK = draw_routes(problem, seed=5, device=CPU).ids_TK
    found: dict[int, list[int]] = {}
    for token, ids in zip(token_T.tolist(), ids_TK.tolist(), strict=True):
        assert found.setdefault(token, ids) == ids
        assert len(set(ids)) == 4
    assert 500 < len(found) < 2000
    other_TK = draw_routes(problem.replace(seed=1), seed=5, device=CPU).ids_TK
    assert (other_TK == ids_TK).float().mean() < 0.05


@pytest.mark.parametrize("name", ROUTERS.names())
def test_every_router_takes_the_text(name: str) -> None:
    problem = fitting(name, T=512, E=4, load="text")
    routing = draw_routes(problem, seed=0, device=CPU)
    assert int(routing.counts_E().sum()) > 0
    assert Router.parse(name).of_batch or torch.equal(routing.ids_TK, draw_routes(problem, seed=0, device=CPU).ids_TK)
