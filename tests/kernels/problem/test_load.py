"""Loads are parsed strictly, and routes drawn under them have the popularity that they name."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.problem.load import Load
from moebench.kernels.problem.routing import Routing
from moebench.kernels.problem.trace import Trace, load_of
from moebench.kernels.problem.traces.trace_writer import write_ids

CPU = torch.device("cpu")
CHI_SQUARE_15 = 44.3  # exceeded by chance once in 10,000 with 15 degrees of freedom


def routes(load: str, *, T: int = 4096, E: int = 16, K: int = 1, seed: int = 0, problem_seed: int = 0) -> Routing:
    return draw_routes(Problem(T=T, D=1, F=1, E=E, K=K, load=load, seed=problem_seed), seed=seed, device=CPU)


def logits_of(load: Load, E: int, seed: int = 0) -> NDArray[np.float64]:
    (population,) = load.populations(E, 1, np.random.default_rng(seed))
    return population.logits_E


def popularity(load: str, E: int, seed: int = 0) -> NDArray[np.float64]:
    logits = logits_of(Load.parse(load), E, seed)
    weights = np.exp(logits - logits.max())
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def chi_square(counts: NDArray[np.int64], expected: NDArray[np.float64]) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(
    ("spec", "load"),
    [
        ("uniform", Load("uniform")),
        ("hot", Load("hot")),
        ("text", Load("text")),
        ("modalities:0.9", Load("modalities", 0.9)),
        ("zipf:1.2", Load("zipf", 1.2)),
        ("dirichlet:0.3", Load("dirichlet", 0.3)),
        ("empty:0.5", Load("empty", 0.5)),
        ("zipf:2", Load("zipf", 2.0)),
        ("dirichlet:1e-3", Load("dirichlet", 0.001)),
        ("trace:a b/c#d.npy#0123abcd", Load("trace", trace=Trace("a b/c#d.npy", "0123abcd"))),
    ],
)
def test_every_form_is_read(spec: str, load: Load) -> None:
    assert Load.parse(spec) == load


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "unifrom",
        "Uniform",
        " uniform",
        "uniform:",
        "uniform:1",
        "hot:2",
        "text:a.txt",
        "modalities",
        "zipf",
        "zipf:",
        "zipf:x",
        "zipf:1:2",
    ]
    + [
        f"{name}:{value}"
        for name in ("zipf", "dirichlet", "empty", "modalities")
        for value in ("0", "-1", "nan", "inf", "1e300")
    ]
    + ["dirichlet:1e-300", "empty:1", "empty:1.5", "dirichlet", "empty", ":1", "zipf;1"]
    + ["trace", "trace:", "trace:a.npy", "trace:a.npy#0", "Trace:a.npy#0123abcd"],
)
def test_anything_else_is_refused_by_its_text(spec: str) -> None:
    with pytest.raises(ValueError, match="give ") as caught:
        Load.parse(spec)
    assert f"load = {spec!r}" in str(caught.value)


def test_a_wrong_name_is_answered_with_every_form() -> None:
    with pytest.raises(ValueError, match="unifrom") as caught:
        Load.parse("unifrom")
    synthetic = ("uniform", "zipf:S", "dirichlet:A", "hot", "empty:FRACTION", "modalities:SHARE")
    forms = (*synthetic, "text", "trace:FILE#DIGEST")
    assert str(caught.value).endswith(", ".join(forms))


@pytest.mark.parametrize("K", [1, 4])
def test_uniform_counts_pass_a_chi_square_test(K: int) -> None:
    counts = routes("uniform", K=K).counts_E().numpy()
    # K distinct experts per token vary less than K independent draws: the bound holds all the more.
    assert chi_square(counts, np.full(16, 4096 * K / 16)) < CHI_SQUARE_15


def test_skewed_counts_fail_the_same_test() -> None:
    assert chi_square(routes("zipf:0.2").counts_E().numpy(), np.full(16, 4096 / 16)) > CHI_SQUARE_15


@pytest.mark.parametrize("s", [0.5, 1.2, 3.0])
def test_zipf_popularity_falls_as_rank_to_the_minus_s(s: float) -> None:
    ranked = np.sort(popularity(f"zipf:{s}", 64))[::-1]
    np.testing.assert_allclose(ranked / ranked[0], np.arange(1, 65) ** -s, rtol=1e-12)


@pytest.mark.parametrize("load", ["zipf:0.7", "zipf:1.2", "dirichlet:2"])
def test_routes_to_one_expert_follow_the_popularity(load: str) -> None:
    expected = 4096 * popularity(load, 16)
    assert chi_square(routes(load).counts_E().numpy(), expected) < CHI_SQUARE_15


@given(a=st.sampled_from([2e-6, 1e-4, 0.01, 0.3, 1.0, 100.0]), E=st.integers(1, 512), seed=st.integers(0, 10_000))
def test_dirichlet_popularity_is_finite_for_any_concentration(a: float, E: int, seed: int) -> None:
    logits = logits_of(Load("dirichlet", a), E, seed)
    assert logits.shape == (E,)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("load", ["dirichlet:2e-6", "dirichlet:9e5", "zipf:2e-6", "zipf:9e5"])
def test_routes_at_the_ends_of_a_parameter_are_finite(load: str) -> None:
    routing = routes(load, T=64, K=4)
    assert routing.gates_TK.isfinite().all()
    assert int(routing.counts_E().sum()) == 64 * 4


def test_small_dirichlet_concentration_is_skewed_and_large_is_even() -> None:
    assert popularity("dirichlet:0.01", 64).max() > 0.5
    assert popularity("dirichlet:10000", 64).max() < 1.1 / 64


def test_dirichlet_popularity_has_the_variance_of_its_law() -> None:
    a, E = 0.5, 8
    shares = np.concatenate([popularity(f"dirichlet:{a}", E, seed) for seed in range(500)])
    assert shares.var() == pytest.approx((1 / E) * (1 - 1 / E) / (a * E + 1), rel=0.1)


def test_hot_expert_is_in_every_token_s_choice_and_the_rest_is_even() -> None:
    counts = np.sort(routes("hot", T=2048, E=17, K=2).counts_E().numpy())
    assert counts[-1] == 2048
    assert chi_square(counts[:-1], np.full(16, 2048 / 16)) < CHI_SQUARE_15


def test_hot_expert_is_another_for_another_problem_but_not_for_other_tokens() -> None:
    hot = [int(routes("hot", T=16, K=2, problem_seed=seed).counts_E().argmax()) for seed in range(20)]
    assert len(set(hot)) > 5
    assert len({int(routes("hot", T=16, K=2, seed=seed).counts_E().argmax()) for seed in range(20)}) == 1


@given(fraction=st.decimals("0.01", "0.99", places=2), E=st.integers(1, 1000))
@example(fraction=Decimal("0.29"), E=100)  # 29, though 0.29 * 100 in binary is below it
def test_empty_experts_are_the_exact_fraction_rounded_down(fraction: Decimal, E: int) -> None:
    load = Load.parse(f"empty:{fraction}")
    assert load.empty_experts(E) == math.floor(fraction * E)
    assert np.isneginf(logits_of(load, E)).sum() == math.floor(fraction * E)


@pytest.mark.parametrize("K", [1, 4, 8])
def test_empty_experts_receive_exactly_nothing(K: int) -> None:
    counts = routes("empty:0.5", K=K).counts_E()
    assert int((counts == 0).sum()) == 8
    assert int(counts.sum()) == 4096 * K


def test_loads_other_than_empty_leave_every_expert_in_use() -> None:
    names = ("uniform", "hot", "zipf", "dirichlet", "trace")
    assert [Load(name, 0.5).empty_experts(8) for name in names] == [0, 0, 0, 0, 0]


def test_experts_of_a_trace_receive_what_was_recorded(tmp_path: Path) -> None:
    write_ids(tmp_path / "layer.npy", [[0, 3], [3, -1], [3, 5]])
    load = load_of(tmp_path / "layer.npy")
    assert routes(load, T=3, E=6, K=2).counts_E().tolist() == [1, 0, 0, 3, 0, 1]
    assert routes(load, T=300, E=8, K=2).counts_E().tolist() == [100, 0, 0, 300, 0, 100, 0, 0]


def test_load_that_leaves_fewer_experts_than_K_is_refused_by_every_value() -> None:
    Load.parse("empty:0.5").check(experts=8, chosen=4)
    with pytest.raises(ValueError, match=r"empty:0\.5.* leaves 4 of E = 8 .* K = 5"):
        Load.parse("empty:0.5").check(experts=8, chosen=5)


@given(share=st.decimals("0.01", "0.99", places=2), T=st.integers(0, 1000))
@example(share=Decimal("0.5"), T=3)
def test_two_modalities_are_of_the_share_rounded_half_up_and_one_after_the_other(share: Decimal, T: int) -> None:
    first, rest = Load.parse(f"modalities:{share}").populations(8, T, np.random.default_rng(0))
    assert (first.tokens, rest.tokens) == (math.floor(share * T + Decimal("0.5")), T - first.tokens)


def test_each_modality_has_routes_of_a_skewed_popularity_of_its_own() -> None:
    first, rest = Load.parse("modalities:0.75").populations(16, 8192, np.random.default_rng(0))
    ids_T = routes("modalities:0.75", T=8192).ids_TK.flatten().numpy()
    for population, ids in ((first, ids_T[:6144]), (rest, ids_T[6144:])):
        shares = np.exp(population.logits_E - population.logits_E.max())
        common = shares / shares.sum() > 0.003  # a chi-square test wants a few counts for each
        expected = len(ids) * (shares / shares.sum())[common]
        assert chi_square(np.bincount(ids, minlength=16)[common], expected) < CHI_SQUARE_15
        assert expected.max() > 2 * len(ids) / 16
    assert np.corrcoef(first.logits_E, rest.logits_E)[0, 1] < 0.5


def test_popularity_of_a_modality_is_of_the_problem_s_seed_alone() -> None:
    draws = [Load.parse("modalities:0.5").populations(8, T, np.random.default_rng(3)) for T in (2, 100)]
    for one, other in zip(*draws, strict=True):
        np.testing.assert_array_equal(one.logits_E, other.logits_E)
