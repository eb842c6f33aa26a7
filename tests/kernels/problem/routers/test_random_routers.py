"""Routers with noise or chance, tables of token ids and projections of their own, against their formulas."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moebench.kernels.problem import InvalidProblem, Problem
from moebench.kernels.problem.draw_routes import draw_routes, route, routed
from moebench.kernels.problem.router import Router, RouterInputs
from moebench.kernels.problem.routers.cosine import Cosine
from moebench.kernels.problem.routers.fixed_random import growing_k
from moebench.kernels.problem.routers.noisy_topk import NoisyTopk
from moebench.kernels.problem.routing import NO_ROUTE
from moebench.kernels.problem.texts.expert_tables import balanced_table, random_table
from moebench.kernels.problem.texts.hashed_words import VOCABULARY
from moebench.kernels.problem.texts.novel import novel_ids

CPU = torch.device("cpu")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 1000), K=st.integers(1, 5), with_scales=st.booleans())
def test_noisy_top_k_is_the_softmax_of_the_largest_logits_with_noise(seed: int, K: int, with_scales: bool) -> None:
    z_TE, raw_TE = normal(7, 5, seed=seed), normal(7, 5, seed=seed + 1) if with_scales else None
    inputs = RouterInputs(logits_TE=z_TE, noise_TE=raw_TE, generator=torch.Generator().manual_seed(seed))
    deviation_TE = torch.log1p(torch.exp(raw_TE if raw_TE is not None else torch.zeros(7, 5))) + 0.01
    h = (z_TE + noise(seed, 7, 5) * deviation_TE).tolist()
    routing = route(NoisyTopk(), inputs, K)
    for ids, gates, row in zip(routing.ids_TK.tolist(), routing.gates_TK.tolist(), h, strict=True):
        best = sorted(range(5), key=lambda e: -row[e])[:K]
        weights = [math.exp(row[e]) for e in best]
        assert ids == best
        assert gates == pytest.approx([w / sum(weights) for w in weights], rel=1e-4)


@given(seed=st.integers(0, 1000), K=st.integers(1, 4))
def test_smooth_load_is_the_probability_of_being_among_the_k_with_new_noise(seed: int, K: int) -> None:
    z_TE, router = normal(6, 4, seed=seed), NoisyTopk()
    inputs = RouterInputs(logits_TE=z_TE, generator=torch.Generator().manual_seed(seed))
    noisy_TE = router.noisy(inputs)
    deviation = math.log(2) + 0.01
    expected = [0.0] * 4
    for z, h in zip(z_TE.tolist(), noisy_TE.tolist(), strict=True):
        for e in range(4):
            others = sorted((h[f] for f in range(4) if f != e), reverse=True)
            threshold = others[K - 1] if K < 4 else -math.inf
            expected[e] += 0.5 * (1 + math.erf((z[e] - threshold) / deviation / math.sqrt(2)))
    assert router.smooth_load(inputs, noisy_TE, K).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_smooth_load_counts_the_routes_when_noise_is_small() -> None:
    z_TE = normal(200, 8)
    router = NoisyTopk(least=1e-3)
    inputs = RouterInputs(logits_TE=z_TE, noise_TE=torch.full((200, 8), -20.0), generator=torch.Generator())
    noisy_TE = router.noisy(inputs)
    ids_TK, _ = router.route_noisy(inputs, noisy_TE, 2)
    load_E = router.smooth_load(inputs, noisy_TE, 2)
    torch.testing.assert_close(load_E, torch.bincount(ids_TK.flatten(), minlength=8).float(), rtol=0.05, atol=0.5)


def test_gshard_keeps_the_second_expert_as_often_as_twice_its_gate() -> None:
    z_TE = torch.tensor([[1.0, 0.0, -9.0]]).repeat(20_000, 1)
    inputs = RouterInputs(logits_TE=z_TE, generator=torch.Generator().manual_seed(0))
    routing = route(Router.parse("gshard_top2"), inputs, 2)
    second = 1 / (1 + math.e)
    assert (routing.ids_TK[:, 0] == 0).all()
    assert float((routing.ids_TK[:, 1] == 1).float().mean()) == pytest.approx(2 * second, abs=0.01)
    assert routing.gates_TK[0].tolist() == pytest.approx([1 - second, second], rel=1e-5)
    even = route(Router.parse("gshard_top2"), RouterInputs(logits_TE=torch.zeros(50, 3)), 2)
    assert (even.ids_TK[:, 1] != NO_ROUTE).all(), "2 g = 1 passes every number below 1"


def test_an_id_has_the_same_distinct_experts_wherever_it_stands() -> None:
    token_T = torch.tensor([5, 9, 5, 31, 9])
    for spec in ("hash", "hash:table=balanced"):
        inputs = RouterInputs(logits_TE=normal(5, 12), token_T=token_T)
        routing = route(Router.parse(spec), inputs, 4)
        assert routing.ids_TK[0].tolist() == routing.ids_TK[2].tolist()
        assert routing.ids_TK[1].tolist() == routing.ids_TK[4].tolist()
        assert (routing.gates_TK == 1).all()
    scored = route(Router.parse("hash:gates=sigmoid,scale=2.5"), inputs, 4)
    score_TK = inputs.logits_TE.sigmoid().gather(1, scored.ids_TK.long())
    torch.testing.assert_close(scored.gates_TK, 2.5 * score_TK / score_TK.sum(1, keepdim=True))


@pytest.mark.parametrize(("experts", "chosen"), [(1, 1), (8, 1), (8, 3), (60, 4), (4, 4)])
def test_tables_give_every_id_distinct_experts_and_every_expert_its_share_of_ids(experts: int, chosen: int) -> None:
    for table in (random_table(experts, chosen, seed=0), balanced_table(experts, chosen)):
        assert table.shape == (VOCABULARY, chosen)
        ordered = np.sort(table, axis=1)
        assert (ordered[:, 1:] > ordered[:, :-1]).all()
    share = np.bincount(random_table(experts, chosen, seed=0).ravel(), minlength=experts) * experts / table.size
    assert (abs(share - 1) < 0.1).all()


def test_the_balanced_table_balances_the_novel_and_the_random_one_does_not() -> None:
    ids = novel_ids()
    loads = {
        name: np.bincount(table[ids].ravel(), minlength=16)
        for name, table in {"balanced": balanced_table(16, 1), "random": random_table(16, 1, seed=0)}.items()
    }
    most_frequent = Counter(ids.tolist()).most_common(1)[0][1]
    assert loads["balanced"].max() <= max(1.001 * len(ids) / 16, most_frequent)
    assert loads["random"].max() > 1.15 * loads["balanced"].max()


def test_a_frozen_look_up_weighs_the_id_s_expert_by_the_sigmoid_of_its_logit() -> None:
    inputs = RouterInputs(logits_TE=normal(4, 8), token_T=torch.tensor([1, 2, 1, 2]))
    routing = route(Router.parse("frozen_lookup"), inputs, 1)
    assert routing.ids_TK[0].item() == routing.ids_TK[2].item()
    torch.testing.assert_close(routing.gates_TK, inputs.logits_TE.gather(1, routing.ids_TK.long()).sigmoid())


@pytest.mark.parametrize("spec", ["hash", "frozen_lookup"])
def test_without_token_ids_a_table_router_says_what_it_needs(spec: str) -> None:
    with pytest.raises(ValueError, match="chooses by token ids: give 4 of them, int64, one for each token"):
        routed(spec, normal(4, 8), 1)
    with pytest.raises(InvalidProblem, match="never uses: give another"):
        Problem(T=4, D=1, F=1, E=8, K=1, router=spec, load="empty:0.5")


def test_skew_of_a_vocabulary_is_skew_of_a_hash_router() -> None:
    counts = [
        draw_routes(
            Problem(T=4096, D=1, F=1, E=16, K=1, router="hash", load=load), seed=1, device=CPU
        ).counts_E().max().item()
        for load in ("uniform", "zipf:1.2", "hot")
    ]  # fmt: skip
    assert counts[0] < 340
    assert 700 < counts[1] < counts[2]


def test_cosine_logits_are_cosines_times_a_bounded_factor() -> None:
    router = Cosine(width=6)
    shapes = router.shapes(D=10, E=5)
    parameters = {name: normal(*shape, seed=n) for n, (name, shape) in enumerate(shapes.items())}
    x_TD = normal(7, 10, seed=9)
    for temperature in (math.log(2), 50.0):
        parameters["temperature"] = torch.tensor([temperature])
        z_TE = router.project(x_TD, parameters, E=5).logits_TE
        token_TP = x_TD @ parameters["projection"].T
        for t in range(7):
            for e in range(5):
                cosine = torch.nn.functional.cosine_similarity(token_TP[t], parameters["similarity"][e], dim=0)
                assert z_TE[t, e].item() == pytest.approx(cosine.item() * min(math.exp(temperature), 100), rel=1e-4)


@given(steps=st.integers(1, 50), experts=st.integers(1, 64))
def test_k_grows_from_the_first_to_all_experts_and_never_falls(steps: int, experts: int) -> None:
    first = min(2, experts)
    found = [growing_k(step, steps, first=first, experts=experts) for step in range(steps)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (first, experts if steps > 1 else first)
    with pytest.raises(ValueError, match=f"step = {steps} of {steps} steps: give between 0"):
        growing_k(steps, steps, first=first, experts=experts)
    with pytest.raises(ValueError, match="first = 0 of"):
        growing_k(0, steps, first=0, experts=experts)
