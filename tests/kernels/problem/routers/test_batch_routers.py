"""Routers that choose for a whole batch, against plain loops of their formulas and an exact solver."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from moebench.kernels.problem import InvalidProblem, Problem
from moebench.kernels.problem.draw_routes import routed
from moebench.kernels.problem.router import RouterInputs
from moebench.kernels.problem.routers._balanced_assignment import balanced_assignment
from moebench.kernels.problem.routers.sinkhorn import Sinkhorn
from moebench.kernels.problem.routers.token_rounding import TokenRounding
from moebench.kernels.problem.routing import NO_ROUTE, Routing
from moebench.kernels.problem.trace import load_of


def logits(T: int, E: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(T, E, generator=torch.Generator().manual_seed(seed)) * scale


def pairs(routing: Routing) -> set[tuple[int, int]]:
    return {(t, e) for t, row in enumerate(routing.ids_TK.tolist()) for e in row if e != NO_ROUTE}


@given(T=st.integers(1, 30), E=st.integers(1, 6), K=st.integers(1, 3), seed=st.integers(0, 1000))
def test_expert_choice_gives_every_expert_its_best_tokens(T: int, E: int, K: int, seed: int) -> None:
    K = min(K, E)
    logits_TE = logits(T, E, seed)
    score = logits_TE.softmax(1).tolist()
    capacity = min(T, max(1, math.floor(T * K / E + 0.5)))
    expected = {(t, e) for e in range(E) for t in sorted(range(T), key=lambda t: (-score[t][e], t))[:capacity]}
    routing = routed("expert_choice", logits_TE, K)
    assert pairs(routing) == expected
    assert set(routing.counts_E().tolist()) == {capacity}
    for t, (ids, gates) in enumerate(zip(routing.ids_TK.tolist(), routing.gates_TK.tolist(), strict=True)):
        own = [(gate, e) for gate, e in zip(gates, ids, strict=True) if e != NO_ROUTE]
        assert [gate for gate, _ in own] == pytest.approx([score[t][e] for _, e in own])
        assert own == sorted(own, key=lambda one: (-one[0], one[1]))


@given(
    T=st.integers(0, 60), E=st.integers(1, 9), seed=st.integers(0, 1000), levels=st.sampled_from([None, 2]),
    skew=st.sampled_from([0.0, 2.0]),
)  # fmt: skip
def test_base_is_the_assignment_of_an_exact_solver(T: int, E: int, seed: int, levels: int | None, skew: float) -> None:
    """With few ``levels`` many scores are equal; with ``skew`` most tokens want the same experts."""
    score_TE = np.random.default_rng(seed).gumbel(size=(T, E)) - skew * np.log1p(np.arange(E))
    score_TE = score_TE if levels is None else np.round(score_TE * levels) / levels
    assigned_T = balanced_assignment(score_TE)
    room = [T // E + (e < T % E) for e in range(E)]
    assert np.bincount(assigned_T, minlength=E).tolist() == room
    column_T = np.repeat(np.arange(E), room)
    rows, columns = linear_sum_assignment(score_TE[:, column_T], maximize=True)
    best = score_TE[rows, column_T[columns]].sum()
    assert score_TE[np.arange(T), assigned_T].sum() == pytest.approx(best, abs=1e-9)


def test_base_weighs_by_the_sigmoid_of_the_assigned_logit() -> None:
    logits_TE = logits(12, 4)
    routing = routed("base", logits_TE, 1)
    assert routing.counts_E().tolist() == [3, 3, 3, 3]
    torch.testing.assert_close(routing.gates_TK, logits_TE.gather(1, routing.ids_TK.long()).sigmoid())


def test_infinite_scores_are_taken_and_avoided() -> None:
    score_TE = np.array([[-np.inf, 0.0], [0.0, np.inf], [5.0, 0.0], [0.0, 1.0]])
    assert balanced_assignment(score_TE).tolist() == [1, 1, 0, 0]


@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_sinkhorn_scales_rows_and_columns_to_equal_sums(seed: int, scale: float) -> None:
    logits_TE = logits(24, 6, seed, scale)
    factor_E = Sinkhorn(tolerance=1e-9, most=100_000).log_factors(logits_TE).exp()
    scaled_TE = logits_TE.double().exp() * factor_E
    scaled_TE /= scaled_TE.sum(1, keepdim=True)
    torch.testing.assert_close(scaled_TE.sum(0), torch.full((6,), 4.0, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_sinkhorn_balances_what_top_k_leaves_skewed() -> None:
    logits_TE = logits(512, 8) - 2 * torch.arange(8).log1p()
    plain, balanced = (routed(name, logits_TE, 1) for name in ("switch", "sinkhorn"))
    assert int(plain.counts_E().max()) > 200
    assert int(balanced.counts_E().max()) < 110
    torch.testing.assert_close(balanced.gates_TK, logits_TE.gather(1, balanced.ids_TK.long()).sigmoid())
    two = routed("sinkhorn", logits_TE, 2)
    torch.testing.assert_close(two.gates_TK, logits_TE.softmax(1).gather(1, two.ids_TK.long()))


def rounded_by_loop(logits_TE: Tensor, K: int, router: TokenRounding) -> set[tuple[int, int]]:
    """Choose pairs by SonicMoE's rule: each expert ranks its own tokens before all others."""
    T, E = logits_TE.shape
    p = logits_TE.softmax(1).double().tolist()
    own = {(t, e) for t in range(T) for e in sorted(range(E), key=lambda e: (-logits_TE[t, e].item(), e))[:K]}
    found = set()
    for e in range(E):
        count = sum((t, e) in own for t in range(T))
        rest = count % router.tile
        up = {"up": rest > 0, "down": False, "nearest": 2 * rest >= router.tile}[router.rounding]
        rows = count - rest + (router.tile if up else 0)
        order = sorted(range(T), key=lambda t: (-(p[t][e] - ((t, e) not in own)), t))
        found |= {(t, e) for t in order[:rows]}
    return found


@given(
    T=st.integers(1, 40), E=st.integers(1, 5), K=st.integers(1, 3), seed=st.integers(0, 1000),
    tile=st.sampled_from([1, 3, 8]), rounding=st.sampled_from(["nearest", "up", "down"]),
)  # fmt: skip
def test_token_rounding_fills_tiles_with_the_next_best_tokens(
    T: int, E: int, K: int, seed: int, tile: int, rounding: str
) -> None:
    logits_TE, K = logits(T, E, seed), min(K, E)
    router = TokenRounding(tile=tile, rounding=rounding)
    routing = routed(router.spec, logits_TE, K)
    assert pairs(routing) == rounded_by_loop(logits_TE, K, router)
    counts = routing.counts_E()
    assert ((counts % tile == 0) | (counts == T)).all()
    if tile == 1:
        assert pairs(routing) == pairs(routed("softmax_topk", logits_TE, K))
        torch.testing.assert_close(
            routing.gates_TK, routed("softmax_topk_renorm", logits_TE, K).gates_TK, rtol=1e-4, atol=1e-6
        )


@given(T=st.integers(1, 50), share=st.sampled_from([0.125, 0.5, 1.0]), seed=st.integers(0, 1000))
def test_mixture_of_depths_takes_the_tokens_with_the_largest_weights(T: int, share: float, seed: int) -> None:
    logits_T1 = logits(T, 1, seed)
    taken = max(1, math.floor(share * T + 0.5))
    best = sorted(range(T), key=lambda t: (-logits_T1[t].item(), t))[:taken]
    routing = routed(f"mixture_of_depths:share={share}", logits_T1, 1)
    assert pairs(routing) == {(t, 0) for t in best}
    assert routing.gates_TK[best].flatten().tolist() == logits_T1[best].flatten().tolist()


@pytest.mark.parametrize(
    ("router", "E", "K", "said"),
    [
        ("base", 8, 2, "not K = 2: give K = 1"),
        ("mixture_of_depths", 8, 1, "not E = 8: give E = 1"),
        ("gshard_top2", 8, 3, "not K = 3: give K = 2"),
        ("frozen_lookup", 8, 2, "not K = 2: give K = 1"),
    ],
)
def test_a_router_that_cannot_do_the_problem_says_so(router: str, E: int, K: int, said: str) -> None:
    with pytest.raises(InvalidProblem, match=said):
        Problem(T=8, D=1, F=1, E=E, K=K, router=router)


@pytest.mark.parametrize("router", ["base", "expert_choice", "sinkhorn", "token_rounding"])
def test_a_batch_s_own_choices_go_with_no_recorded_load(router: str, tmp_path: Path) -> None:
    path = tmp_path / "layer.npy"
    np.save(path, np.zeros((4, 1), dtype=np.int32))
    with pytest.raises(InvalidProblem, match="has the choices of another router: give a router whose tokens choose"):
        Problem(T=8, D=1, F=1, E=8, K=1, router=router, load=load_of(path))


def test_an_expert_that_the_load_never_uses_stays_empty() -> None:
    logits_TE = logits(64, 8)
    logits_TE[:, 3] = -math.inf
    for spec in ("expert_choice", "sinkhorn", "token_rounding:tile=8"):
        inputs = RouterInputs(logits_TE=logits_TE)
        assert inputs.noise_TE is None
        assert int(routed(spec, logits_TE, 2).counts_E()[3]) == 0
