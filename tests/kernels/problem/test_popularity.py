"""Expected choices of tokens against combinatorics, against the routers themselves, and against counts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.problem.load import Load
from moebench.kernels.problem.popularity import SAMPLED, Drawn, Pooled, Tallied, choices
from moebench.kernels.problem.texts.novel import novel_ids
from moebench.kernels.problem.trace import load_of
from moebench.kernels.problem.traces.trace_writer import write_ids

CPU = torch.device("cpu")
TOKENS = 20_000
SIGMAS = 5.0  # standard deviations of the mean of that many tokens: exceeded by chance once in a million
LOADS = [
    "uniform",
    "zipf:0.5",
    "zipf:1.2",
    "zipf:3",
    "dirichlet:0.3",
    "dirichlet:0.03",
    "hot",
    "empty:0.5",
    "modalities:0.3",
]


def shared(experts: int, groups: int) -> NDArray[np.int64]:
    return np.arange(experts) * groups // experts


def routed(problem: Problem, seed: int = 1) -> NDArray[np.int64]:
    """Route tokens and return whether each chose each expert, (T, E)."""
    ids_TK = draw_routes(problem, seed=seed, device=CPU).ids_TK.numpy()
    chosen_TE = np.zeros((problem.T, problem.E + 1), dtype=np.int64)
    np.put_along_axis(chosen_TE, ids_TK.astype(np.int64), 1, axis=1)  # no route is -1, the last column
    return chosen_TE[:, :-1]


@given(E=st.integers(1, 96), data=st.data())
def test_uniform_groups_are_hit_as_combinatorics_has_it(E: int, data: st.DataObject) -> None:
    K = data.draw(st.integers(1, min(E, 12)))
    owner_E = shared(E, data.draw(st.integers(1, E)))
    sizes = np.bincount(owner_E)
    exact = [1 - math.comb(E - size, K) / math.comb(E, K) for size in sizes]
    np.testing.assert_allclose(Drawn(np.zeros(E), K).hit(owner_E), exact, atol=1e-8)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize(("E", "K", "groups"), [(8, 2, 4), (60, 4, 7), (64, 1, 8), (128, 8, 16)])
def test_experts_ranks_and_nodes_are_hit_as_the_router_hits_them(load: str, E: int, K: int, groups: int) -> None:
    problem = Problem(T=TOKENS, D=1, F=1, E=E, K=K, load=load, seed=3)
    chosen_TE = routed(problem)
    for owner_E in (np.arange(E), shared(E, groups), shared(E, 2)):
        hit_G = choices(problem).hit(owner_E)
        hits_TG = np.stack([chosen_TE[:, owner_E == group].any(1) for group in range(owner_E.max() + 1)], axis=1)
        deviation_G = np.sqrt(np.maximum(hit_G * (1 - hit_G), 1 / TOKENS) / TOKENS)
        assert (np.abs(hits_TG.mean(0) - hit_G) < SIGMAS * deviation_G).all()


@given(
    logits=st.lists(st.floats(-1e6, 1e6) | st.just(-math.inf), min_size=1, max_size=40),
    data=st.data(),
)
def test_any_popularity_gives_probabilities_that_add_up(logits: list[float], data: st.DataObject) -> None:
    """A token chooses K experts, and a group at most as often as its experts together, however far apart they are."""
    usable = sum(math.isfinite(logit) for logit in logits)
    assume(usable)
    drawn = Drawn(np.array(logits), data.draw(st.integers(1, usable)))
    owner_E = shared(len(logits), data.draw(st.integers(1, len(logits))))
    hit_G, included_E = drawn.hit(owner_E), drawn.included_E
    assert included_E.sum() == pytest.approx(drawn.chosen, abs=1e-6)
    assert (included_E[np.isneginf(logits)] == 0).all()
    assert (hit_G <= np.minimum(np.bincount(owner_E, included_E), 1) + 1e-7).all()
    assert (hit_G >= [included_E[owner_E == group].max() - 1e-7 for group in range(owner_E.max() + 1)]).all()


def test_order_of_experts_and_numbering_of_groups_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    logits_E, owner_E = rng.normal(size=48), rng.integers(0, 5, size=48)
    owner_E[:5] = np.arange(5)
    order_E = rng.permutation(48)
    hit_G = Drawn(logits_E, 6).hit(owner_E)
    np.testing.assert_allclose(Drawn(logits_E[order_E], 6).hit(owner_E[order_E]), hit_G, rtol=1e-9)
    renamed = np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(Drawn(logits_E, 6).hit(renamed[owner_E])[renamed], hit_G, rtol=1e-9)


def test_a_trace_is_counted_with_its_missing_routes(tmp_path: Path) -> None:
    ids_TK = np.array([[0, 1], [1, 3], [-1, 2], [-1, -1]], dtype=np.int32)
    write_ids(tmp_path / "t.npy", ids_TK)
    problem = Problem(T=4, D=1, F=1, E=4, K=2, load=load_of(tmp_path / "t.npy"))
    counted = choices(problem)
    np.testing.assert_allclose(counted.included_E, [1 / 4, 2 / 4, 1 / 4, 1 / 4])
    np.testing.assert_allclose(counted.hit(np.array([0, 0, 1, 1])), [2 / 4, 2 / 4])


def test_a_trace_of_drawn_routes_says_what_the_draw_says() -> None:
    problem = Problem(T=TOKENS, D=1, F=1, E=32, K=4, load="zipf:1", seed=5)
    recorded = Tallied(draw_routes(problem, seed=2, device=CPU).ids_TK.numpy(), 32)
    for owner_E in (np.arange(32), shared(32, 4)):
        np.testing.assert_allclose(recorded.hit(owner_E), choices(problem).hit(owner_E), atol=0.015)


def test_two_modalities_are_mixed_by_their_tokens() -> None:
    """Check for a problem so small that its share is far from the one that was asked for."""
    problem = Problem(T=3, D=1, F=1, E=8, K=2, load="modalities:0.5", seed=4)
    first, rest = Load.parse(problem.load).populations(8, 3, np.random.default_rng(4))
    assert (first.tokens, rest.tokens) == (2, 1)
    mixed, owner_E = choices(problem), shared(8, 3)
    parts = [Drawn(one.logits_E, 2) for one in (first, rest)]
    np.testing.assert_allclose(mixed.included_E, (2 * parts[0].included_E + parts[1].included_E) / 3)
    np.testing.assert_allclose(mixed.hit(owner_E), (2 * parts[0].hit(owner_E) + parts[1].hit(owner_E)) / 3)
    assert choices(problem.replace(T=0)).included_E.sum() == pytest.approx(2)


@pytest.mark.parametrize("router", ["softmax_topk", "sigmoid_topk:bias=0.5"])
def test_choices_of_a_text_are_counted_in_it(router: str) -> None:
    """Compare with routes of the whole text; a router of biases has a sample of it."""
    length = len(novel_ids())
    problem = Problem(T=length, D=1, F=1, E=16, K=3, load="text", router=router)
    counted = routed(problem).mean(0)
    exact = router == "softmax_topk"
    np.testing.assert_allclose(choices(problem).included_E, counted, atol=1e-12 if exact else 0.03)
    assert counted.max() > 1.2 * counted.mean()


GROUPED = "sigmoid_topk:groups=8,top_groups=4"


@pytest.mark.parametrize("router", [GROUPED, "softmax_topk:zero_experts=32"])
def test_experts_that_are_alike_have_equal_shares_though_they_are_counted(router: str) -> None:
    """The largest of 64 shares that are counted each for itself is an eighth too large."""
    problem = Problem(T=8, D=1, F=1, E=64, K=6, router=router)
    found = choices(problem)
    mean = 6 / 64 if router == GROUPED else 6 / 96
    assert found.included_E.max() == pytest.approx(found.included_E.min(), rel=1e-12)
    assert found.included_E == pytest.approx(mean, rel=5 / math.sqrt(SAMPLED))
    for ranks in (2, 8, 16, 64):
        hit = found.hit(shared(64, ranks))
        assert hit.max() == pytest.approx(hit.min(), rel=1e-12)


@pytest.mark.parametrize("load", ["uniform", "hot", "zipf:1.2", "modalities:0.3"])
@pytest.mark.parametrize("ranks", [4, 16, 48])
def test_shares_that_alike_experts_have_in_common_are_those_of_other_tokens(load: str, ranks: int) -> None:
    problem = Problem(T=TOKENS, D=1, F=1, E=64, K=6, router=GROUPED, load=load)
    found = choices(problem)
    assert isinstance(found, Pooled)
    owner_E = shared(64, ranks)
    hit_G = Tallied(draw_routes(problem, seed=99, device=CPU).ids_TK.numpy(), 64).hit(owner_E)
    spread_G = np.sqrt(np.maximum(hit_G * (1 - hit_G), 1 / TOKENS) * (1 / TOKENS + 1 / SAMPLED))
    assert (np.abs(found.hit(owner_E) - hit_G) < SIGMAS * spread_G).all()
