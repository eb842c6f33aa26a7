"""Routers choose the right experts with the right weights, and the same routes for the same seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moebench.kernels.problem import Problem
from moebench.kernels.problem.routers import ROUTERS, route, softmax_topk, softmax_topk_renorm, switch
from moebench.kernels.problem.routing import NO_ROUTE, Routing
from moebench.kernels.problem.trace import load_of, write

CPU = torch.device("cpu")

Router = Callable[[Tensor, int], Routing]


@st.composite
def logits_and_K(draw: st.DrawFn) -> tuple[Tensor, int]:
    T, E = draw(st.integers(0, 20)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    scale = draw(st.sampled_from([0.1, 1.0, 10.0]))
    return torch.randn(T, E, generator=generator) * scale, draw(st.integers(1, E))


@given(case=logits_and_K())
@pytest.mark.parametrize("router", [softmax_topk, softmax_topk_renorm])
def test_routes_are_the_K_largest_logits_each_once_in_order(router: Router, case: tuple[Tensor, int]) -> None:
    logits_TE, K = case
    routing = router(logits_TE, K)
    assert routing.experts == logits_TE.shape[1]
    torch.testing.assert_close(routing.ids_TK.long(), logits_TE.sort(descending=True).indices[:, :K])
    assert all(len(set(row)) == K for row in routing.ids_TK.tolist())


@given(case=logits_and_K())
def test_plain_gates_are_the_probabilities_of_the_chosen(case: tuple[Tensor, int]) -> None:
    logits_TE, K = case
    routing = softmax_topk(logits_TE, K)
    exponentials = torch.exp(logits_TE.double())
    probabilities = exponentials / exponentials.sum(1, keepdim=True)
    torch.testing.assert_close(
        routing.gates_TK.double(), probabilities.gather(1, routing.ids_TK.long()), rtol=1e-5, atol=0
    )
    assert (routing.gates_TK > 0).all()
    assert (routing.gates_TK <= 1).all()
    assert (routing.gates_TK.sum(1) <= 1 + 1e-6).all()


@given(case=logits_and_K())
def test_renormalised_softmax_before_top_k_is_softmax_after_it(case: tuple[Tensor, int]) -> None:
    logits_TE, K = case
    routing = softmax_topk_renorm(logits_TE, K)
    expected_TK = torch.softmax(logits_TE.double().topk(K, dim=1).values, dim=1)
    torch.testing.assert_close(routing.gates_TK.double(), expected_TK, rtol=1e-5, atol=0)
    torch.testing.assert_close(routing.gates_TK.sum(1), torch.ones(len(logits_TE)))


@given(case=logits_and_K())
def test_switch_is_the_argmax_with_its_probability(case: tuple[Tensor, int]) -> None:
    logits_TE, _ = case
    routing = switch(logits_TE, 1)
    torch.testing.assert_close(routing.ids_TK[:, 0].long(), logits_TE.argmax(1))
    torch.testing.assert_close(routing.gates_TK[:, 0], torch.softmax(logits_TE, 1).amax(1))


@pytest.mark.parametrize("router", [softmax_topk, softmax_topk_renorm])
def test_of_equal_logits_the_lower_index_comes_first(router: Router) -> None:
    logits_TE = torch.zeros(1, 300)
    logits_TE[0, 200:] = 1.0
    logits_TE[0, 7] = -0.0
    assert router(logits_TE, 130).ids_TK.tolist() == [[*range(200, 300), *range(30)]]


def test_switch_takes_one_expert_only() -> None:
    with pytest.raises(ValueError, match="not K = 2"):
        switch(torch.zeros(1, 4), 2)


@pytest.mark.parametrize("router", [softmax_topk, softmax_topk_renorm])
def test_experts_whose_probability_vanishes_in_float32_keep_their_order(router: Router) -> None:
    routing = router(torch.tensor([[-300.0, -200.0, 0.0, -150.0, -400.0]]), 4)
    assert routing.ids_TK.tolist() == [[2, 3, 1, 0]]
    assert routing.gates_TK.tolist() == [[1.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", ["softmax_topk", "softmax_topk_renorm", "switch"])
@pytest.mark.parametrize("load", ["uniform", "zipf:1.2", "dirichlet:0.3", "hot", "empty:0.5"])
def test_route_repeats_for_a_seed_and_differs_for_another(name: str, load: str) -> None:
    K = 1 if name == "switch" else 3
    problem = Problem(T=64, D=1, F=1, E=16, K=K, router=name, load=load)  # type: ignore[arg-type]  # one of the names
    first, again, other = (route(problem, seed=seed, device=CPU) for seed in (7, 7, 8))
    assert torch.equal(first.ids_TK, again.ids_TK)
    assert torch.equal(first.gates_TK, again.gates_TK)
    assert not torch.equal(first.gates_TK, other.gates_TK)
    assert (first.ids_TK.shape, first.ids_TK.dtype, first.gates_TK.dtype) == ((64, K), torch.int32, torch.float32)


def test_routes_of_the_first_tokens_do_not_depend_on_the_router_but_their_weights_do() -> None:
    plain, renorm = (
        route(Problem(T=32, D=1, F=1, E=8, K=2, router=name), seed=1, device=CPU)
        for name in ("softmax_topk", "softmax_topk_renorm")
    )
    assert torch.equal(plain.ids_TK, renorm.ids_TK)
    assert (plain.gates_TK < renorm.gates_TK).all()


@pytest.mark.parametrize("name", ROUTERS)
def test_no_tokens_are_no_routes(name: str) -> None:
    problem = Problem(T=0, D=1, F=1, E=4, K=1, router=name)  # type: ignore[arg-type]  # one of the names
    routing = route(problem, seed=0, device=CPU)
    assert routing.ids_TK.shape == routing.gates_TK.shape == (0, 1)
    assert routing.counts_E().tolist() == [0, 0, 0, 0]


RECORDED = {
    "uniform": "bc3cfdf59ab3b166",
    "zipf:1.2": "057cf3484785a5bb",
    "dirichlet:0.3": "cf51d51fdee3a130",
    "hot": "38745850ded1bc6d",
    "empty:0.5": "99677a472c211d18",
}


@pytest.mark.parametrize("load", RECORDED)
def test_routes_of_a_recorded_key_and_seed_stay_what_they_were(load: str) -> None:
    """Of the ids: the last bits of a weight are the machine's."""
    problem = Problem(T=64, D=1, F=1, E=16, K=3, load=load)
    ids_TK = route(problem, seed=7, device=CPU).ids_TK
    assert hashlib.sha256(ids_TK.numpy().astype("<i4").tobytes()).hexdigest()[:16] == RECORDED[load]


def trace_of(path: Path, *, E: int, K: int, tokens: int = 40) -> list[list[int]]:
    """Written to ``path``; no two tokens are alike, and every seventh is dropped from its last choice."""
    rng = np.random.default_rng(0)
    ids = np.stack([rng.permutation(E)[:K] for _ in range(tokens)])
    ids[::7, -1] = -2
    write(path, ids)
    recorded: list[list[int]] = np.maximum(ids, NO_ROUTE).tolist()
    return recorded


@pytest.mark.parametrize("T", [0, 1, 25, 40, 100])
@pytest.mark.parametrize("name", ROUTERS)
def test_routes_of_a_trace_are_its_rows_in_their_order_whatever_the_router(name: str, T: int, tmp_path: Path) -> None:
    K = 1 if name == "switch" else 3
    recorded = trace_of(tmp_path / "layer.npy", E=300, K=K)
    problem = Problem(T=T, D=1, F=1, E=300, K=K, router=name, load=load_of(tmp_path / "layer.npy"))  # type: ignore[arg-type]  # one of the names
    for seed in range(5):
        routing = route(problem, seed=seed, device=CPU)
        assert any(routing.ids_TK.tolist() == (recorded * 4)[start : start + T] for start in range(len(recorded)))
        assert routing.ids_TK.dtype == torch.int32


def test_seed_of_the_tokens_chooses_the_window_and_that_of_the_problem_does_not(tmp_path: Path) -> None:
    trace_of(tmp_path / "layer.npy", E=300, K=3)
    problem = Problem(T=9, D=1, F=1, E=300, K=3, load=load_of(tmp_path / "layer.npy"))
    windows = {seed: route(problem, seed=seed, device=CPU).ids_TK for seed in range(20)}
    assert all(torch.equal(route(problem.replace(seed=1), seed=s, device=CPU).ids_TK, windows[s]) for s in windows)
    assert len({tuple(window.flatten().tolist()) for window in windows.values()}) > 10


@pytest.mark.parametrize("name", ROUTERS)
def test_weights_of_a_trace_are_the_router_s_and_fall_with_the_choice(name: str, tmp_path: Path) -> None:
    K = 1 if name == "switch" else 3
    trace_of(tmp_path / "layer.npy", E=16, K=K)
    traced, even = (
        route(Problem(T=64, D=1, F=1, E=16, K=K, router=name, load=load), seed=7, device=CPU)  # type: ignore[arg-type]  # one of the names
        for load in (load_of(tmp_path / "layer.npy"), "uniform")
    )
    assert torch.equal(traced.gates_TK, even.gates_TK)
    assert (traced.gates_TK.diff(dim=1) <= 0).all()
    assert len(traced.gates_TK[:, 0].unique()) == 64
