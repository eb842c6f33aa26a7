"""Routes drawn for a problem: the same for the same seed, by its load or its trace, for every router."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from fitting_problems import fitting

from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.problem.router import ROUTERS
from moebench.kernels.problem.routing import NO_ROUTE
from moebench.kernels.problem.trace import load_of
from moebench.kernels.problem.traces.trace_format import LayerDescription, LayerRoutes
from moebench.kernels.problem.traces.trace_writer import write_ids, write_trace

CPU = torch.device("cpu")
TOKEN_CHOICE = [name for name in ROUTERS.names() if not ROUTERS.load(name).of_batch]
"""Routers whose tokens choose: the others take no trace."""


@pytest.mark.parametrize("name", ROUTERS.names())
@pytest.mark.parametrize("load", ["uniform", "zipf:1.2", "dirichlet:0.3", "hot", "empty:0.5", "modalities:0.9", "text"])
def test_route_repeats_for_a_seed_and_differs_for_another(name: str, load: str) -> None:
    problem = fitting(name, T=256, E=4, load=load)
    if problem.E == 1 and name != "mixture_of_depths":
        pytest.skip("it takes this load with one expert only, which leaves no choice")
    first, again, other = (draw_routes(problem, seed=seed, device=CPU) for seed in (7, 7, 8))
    assert torch.equal(first.ids_TK, again.ids_TK)
    assert torch.equal(first.gates_TK, again.gates_TK)
    assert not (torch.equal(first.gates_TK, other.gates_TK) and torch.equal(first.ids_TK, other.ids_TK))
    assert (len(first.ids_TK), first.ids_TK.dtype, first.gates_TK.dtype) == (256, torch.int32, torch.float32)


def test_routes_of_the_first_tokens_do_not_depend_on_the_router_but_their_weights_do() -> None:
    plain, renorm = (
        draw_routes(Problem(T=32, D=1, F=1, E=8, K=2, router=name), seed=1, device=CPU)
        for name in ("softmax_topk", "softmax_topk_renorm")
    )
    assert torch.equal(plain.ids_TK, renorm.ids_TK)
    assert (plain.gates_TK < renorm.gates_TK).all()


@pytest.mark.parametrize("name", ROUTERS.names())
def test_no_tokens_are_no_routes(name: str) -> None:
    problem = fitting(name, T=0, E=4, K=1)
    routing = draw_routes(problem, seed=0, device=CPU)
    assert routing.ids_TK.shape == routing.gates_TK.shape
    assert len(routing.ids_TK) == 0
    assert routing.counts_E().tolist() == [0] * problem.E


RECORDED = {
    "uniform": "bc3cfdf59ab3b166",
    "zipf:1.2": "057cf3484785a5bb",
    "dirichlet:0.3": "cf51d51fdee3a130",
    "hot": "38745850ded1bc6d",
    "empty:0.5": "99677a472c211d18",
}


@pytest.mark.parametrize("load", RECORDED)
def test_routes_of_a_recorded_key_and_seed_stay_what_they_were(load: str) -> None:
    """Compare the ids only: the last bits of a weight differ between machines."""
    problem = Problem(T=64, D=1, F=1, E=16, K=3, load=load)
    ids_TK = draw_routes(problem, seed=7, device=CPU).ids_TK
    assert hashlib.sha256(ids_TK.numpy().astype("<i4").tobytes()).hexdigest()[:16] == RECORDED[load]


def trace_of(path: Path, *, E: int, K: int, tokens: int = 40) -> list[list[int]]:
    """Write a trace to ``path``; no two tokens are alike, and every seventh is dropped from its last choice."""
    rng = np.random.default_rng(0)
    ids = np.stack([rng.permutation(E)[:K] for _ in range(tokens)])
    ids[::7, -1] = -2
    write_ids(path, ids)
    recorded: list[list[int]] = np.maximum(ids, NO_ROUTE).tolist()
    return recorded


@pytest.mark.parametrize("T", [0, 1, 25, 40, 100])
@pytest.mark.parametrize("name", TOKEN_CHOICE)
def test_routes_of_a_trace_are_its_rows_in_their_order_whatever_the_router(name: str, T: int, tmp_path: Path) -> None:
    K = fitting(name).K
    recorded = trace_of(tmp_path / "layer.npy", E=300, K=K)
    problem = Problem(T=T, D=1, F=1, E=300, K=K, router=name, load=load_of(tmp_path / "layer.npy"))
    for seed in range(5):
        routing = draw_routes(problem, seed=seed, device=CPU)
        assert any(routing.ids_TK.tolist() == (recorded * 4)[start : start + T] for start in range(len(recorded)))
        assert routing.ids_TK.dtype == torch.int32


def test_seed_of_the_tokens_chooses_the_window_and_that_of_the_problem_does_not(tmp_path: Path) -> None:
    trace_of(tmp_path / "layer.npy", E=300, K=3)
    problem = Problem(T=9, D=1, F=1, E=300, K=3, load=load_of(tmp_path / "layer.npy"))
    windows = {seed: draw_routes(problem, seed=seed, device=CPU).ids_TK for seed in range(20)}
    assert all(
        torch.equal(draw_routes(problem.replace(seed=1), seed=s, device=CPU).ids_TK, windows[s]) for s in windows
    )
    assert len({tuple(window.flatten().tolist()) for window in windows.values()}) > 10


WEIGHED_APART = {"sparsemixer", "hash"}
"""Routers that weigh each choice for itself: a later one may weigh more, and many weigh 1."""


@pytest.mark.parametrize("name", TOKEN_CHOICE)
def test_weights_of_a_trace_are_the_router_s_and_fall_with_the_choice(name: str, tmp_path: Path) -> None:
    K = fitting(name).K
    trace_of(tmp_path / "layer.npy", E=16, K=K)
    traced, even = (
        draw_routes(Problem(T=64, D=1, F=1, E=16, K=K, router=name, load=load), seed=7, device=CPU)
        for load in (load_of(tmp_path / "layer.npy"), "uniform")
    )
    assert torch.equal(traced.gates_TK, even.gates_TK)
    if name not in WEIGHED_APART:
        assert (traced.gates_TK.diff(dim=1) <= 0).all()
        assert len(traced.gates_TK[:, 0].unique()) == 64


def test_recorded_weights_are_those_of_the_routes_whatever_the_router(tmp_path: Path) -> None:
    ids = np.array([[3, 0], [1, -1], [2, 4]], np.int32)
    gates = np.array([[0.5, 0.25], [2, 0], [-1, 0.125]], np.float32)
    layer = LayerDescription(name="a", experts=6, steps=(3,))
    write_trace(tmp_path / "t.npz", [LayerRoutes(layer=layer, ids_TK=ids, gates_TK=gates)])
    for router in ("softmax_topk", "sigmoid_topk:scale=2.5"):
        problem = Problem(T=3, D=1, F=1, E=6, K=2, router=router, load=load_of(tmp_path / "t.npz"))
        routing = draw_routes(problem, seed=0, device=CPU)
        assert routing.ids_TK.tolist() == ids.tolist()
        assert routing.gates_TK.tolist() == gates.tolist()
