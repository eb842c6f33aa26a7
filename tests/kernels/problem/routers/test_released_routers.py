"""Routers of released models against their formulas, token by token in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moebench.kernels.problem import InvalidProblem, Problem
from moebench.kernels.problem.draw_routes import draw_routes, routed
from moebench.kernels.problem.router import Router, RouterInputs

CPU = torch.device("cpu")


@st.composite
def logits_and_K(draw: st.DrawFn) -> tuple[Tensor, int]:
    """Draw logits (T, E), some of which are equal, and K."""
    T, E = draw(st.integers(0, 20)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    logits_TE = torch.randn(T, E, generator=generator) * draw(st.sampled_from([0.1, 1.0, 10.0]))
    return logits_TE.round(decimals=draw(st.sampled_from([0, 1, 6]))), draw(st.integers(1, E))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


@given(case=logits_and_K())
def test_softmax_over_the_chosen_is_the_renormalised_softmax_over_all(case: tuple[Tensor, int]) -> None:
    logits_TE, K = case
    after, before = (routed(name, logits_TE, K) for name in ("topk_softmax", "softmax_topk_renorm"))
    assert torch.equal(after.ids_TK, before.ids_TK)
    expected_TK = logits_TE.double().sort(descending=True).values[:, :K].softmax(-1)
    for routing in (after, before):
        torch.testing.assert_close(routing.gates_TK.double(), expected_TK, rtol=1e-6, atol=1e-40)


@given(case=logits_and_K(), renormalise=st.booleans(), seed=st.integers(0, 99))
def test_the_logit_plus_the_bias_selects_and_the_sigmoid_of_the_logit_weighs(
    case: tuple[Tensor, int], renormalise: bool, seed: int
) -> None:
    logits_TE, K = case
    bias_E = torch.randn(logits_TE.shape[1], generator=torch.Generator().manual_seed(seed))
    router = Router.parse(f"topk_sigmoid:renormalise={str(renormalise).lower()}")
    ids_TK, gates_TK = router.route(RouterInputs(logits_TE=logits_TE, bias_E=bias_E), K)
    for ids, gates, logits in zip(ids_TK.tolist(), gates_TK.tolist(), logits_TE, strict=True):
        selection = (logits + bias_E).tolist()
        assert ids == sorted(range(len(selection)), key=lambda e: (-selection[e], -float(logits[e]), e))[:K]
        scores = [sigmoid(float(logits[e])) for e in ids]
        assert gates == pytest.approx([s / (sum(scores) if renormalise else 1) for s in scores], rel=1e-6)


@given(case=logits_and_K(), scale=st.sampled_from([1.0, 1.5]), seed=st.integers(0, 99))
def test_the_root_of_softplus_plus_the_bias_selects_and_the_root_alone_weighs(
    case: tuple[Tensor, int], scale: float, seed: int
) -> None:
    logits_TE, K = case
    bias_E = torch.randn(logits_TE.shape[1], generator=torch.Generator().manual_seed(seed))
    router = Router.parse(f"sqrt_softplus_topk:scale={scale}")
    ids_TK, gates_TK = router.route(RouterInputs(logits_TE=logits_TE, bias_E=bias_E), K)
    for ids, gates, logits in zip(ids_TK.tolist(), gates_TK.tolist(), logits_TE.tolist(), strict=True):
        scores = torch.tensor([math.sqrt(math.log1p(math.exp(z))) for z in logits])
        selection = (scores + bias_E).tolist()
        best = sorted(range(len(selection)), key=lambda e: -selection[e])[:K]
        assert [selection[e] for e in ids] == pytest.approx([selection[e] for e in best], abs=1e-6)
        weights = [float(scores[e]) for e in ids]
        assert gates == pytest.approx([scale * w / sum(weights) for w in weights], rel=1e-5)


@given(case=logits_and_K(), jitter=st.sampled_from([0.01, 0.1]))
def test_each_choice_of_sparsemixer_is_weighed_among_those_left_that_are_near_it(
    case: tuple[Tensor, int], jitter: float
) -> None:
    logits_TE, K = case
    routing = routed(f"sparsemixer:jitter={jitter}", logits_TE, K)
    assert torch.equal(routing.ids_TK.long(), logits_TE.sort(descending=True, stable=True).indices[:, :K])
    for ids, gates, row in zip(routing.ids_TK.tolist(), routing.gates_TK.tolist(), logits_TE, strict=True):
        left = set(range(len(row)))
        for e, gate in zip(ids, gates, strict=True):
            m = row[e]
            near = [f for f in left if not (m - row[f]) / max(abs(row[f]), m) > 2 * jitter]  # 0 / 0 is near
            assert gate == pytest.approx(1 / sum(math.exp(float(row[f] - m)) for f in near), rel=1e-5)
            left.remove(e)


def test_sparsemixer_gives_no_weight_where_no_expert_is_left() -> None:
    routing = routed("sparsemixer", torch.tensor([[1.0, -math.inf, -math.inf], [-math.inf] * 3]), 2)
    assert routing.gates_TK.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_sparsemixer_has_the_gradient_of_its_formula() -> None:
    """All logits are near each other: the first gate is a softmax over all, the second over all but the first."""
    logits_TE = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)).mul(1e-3).add(1).requires_grad_()
    dgates_TK = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    routing = routed("sparsemixer", logits_TE, 2)
    (found_TE,) = torch.autograd.grad(routing.gates_TK, logits_TE, dgates_TK)
    sorted_TE = logits_TE.double().sort(descending=True).values
    expected_T2 = torch.stack((sorted_TE.softmax(1)[:, 0], sorted_TE[:, 1:].softmax(1)[:, 0]), 1)
    (expected_TE,) = torch.autograd.grad(expected_T2, logits_TE, dgates_TK.double())
    torch.testing.assert_close(found_TE, expected_TE, rtol=1e-5, atol=1e-7)


@given(case=logits_and_K(), shared=st.integers(1, 3), scale=st.sampled_from([1.0, 8.0]))
def test_shared_experts_take_part_in_the_sum_and_are_never_chosen(
    case: tuple[Tensor, int], shared: int, scale: float
) -> None:
    chosen_TE, K = case
    shared_TS = torch.randn(len(chosen_TE), shared, generator=torch.Generator().manual_seed(0)) + 5
    router = Router.parse(f"sigmoid_topk:shared_experts={shared},scale={scale},bias=0.1")
    ids_TK, gates_TK = router.route(RouterInputs(logits_TE=torch.cat((chosen_TE, shared_TS), 1)), K)
    plain_TK, _ = Router.parse("sigmoid_topk:bias=0.1").route(RouterInputs(logits_TE=chosen_TE), K)
    assert torch.equal(ids_TK, plain_TK)
    scores_TK = chosen_TE.double().sigmoid().gather(1, ids_TK.long())
    total_T1 = scores_TK.sum(1, keepdim=True) + shared_TS.double().sigmoid().sum(1, keepdim=True)
    torch.testing.assert_close(gates_TK.double(), scale * scores_TK / total_T1, rtol=1e-6, atol=1e-40)


def test_shared_experts_without_a_sum_are_refused() -> None:
    with pytest.raises(InvalidProblem, match="shared_experts = 2 changes a sum only: give renormalise=true"):
        Problem(T=1, D=1, F=1, E=4, K=1, router="sigmoid_topk:renormalise=false,shared_experts=2")


def test_a_choice_of_zero_experts_is_no_route_and_keeps_its_place() -> None:
    problem = Problem(T=4096, D=1, F=1, E=64, K=12, router="softmax_topk:zero_experts=32,scale=6")
    routing = draw_routes(problem, seed=3, device=CPU)
    routes_T = (routing.ids_TK >= 0).sum(1)
    assert routes_T.float().mean() == pytest.approx(8, rel=0.02)
    assert routes_T.min() < 6
    assert routes_T.max() > 10
    assert problem.leaves_out
    assert routing.ids_TK.max() == 63
    assert problem.dense().router == "softmax_topk:scale=6"
    assert draw_routes(problem.dense(), seed=3, device=CPU).ids_TK.min() == 0


@pytest.mark.parametrize("best", [1, 2])
def test_groups_of_softmax_are_ranked_by_their_largest_or_their_two_largest_probabilities(best: int) -> None:
    logits_TE = torch.tensor([[3.0, 0.0, 2.6, 2.5]]).log()  # two groups: {3, 0} and {2.6, 2.5}
    routing = routed(f"softmax_topk:groups=2,top_groups=1,group_best={best}", logits_TE, 1)
    assert routing.ids_TK.tolist() == [[0]] if best == 1 else [[2]]
    assert routing.gates_TK.item() == pytest.approx((3.0 if best == 1 else 2.6) / 8.1)


@pytest.mark.parametrize("router", ["sigmoid_topk:shared_experts=2", "sqrt_softplus_topk", "topk_sigmoid"])
def test_shares_of_the_scores_are_those_of_the_experts_and_finite_far_below_zero(router: str) -> None:
    shared = 2 if "shared" in router else 0
    logits_TE = torch.randn(5, 8 + shared, generator=torch.Generator().manual_seed(0))
    shares_TE = Router.parse(router).probabilities(logits_TE)
    score_TE = logits_TE[:, :8].double()
    score_TE = torch.nn.functional.softplus(score_TE).sqrt() if "softplus" in router else score_TE.sigmoid()
    torch.testing.assert_close(shares_TE.double(), score_TE / score_TE.sum(1, keepdim=True), rtol=1e-6, atol=0)
    assert Router.parse(router).probabilities(logits_TE - 1e4).isfinite().all()


@pytest.mark.parametrize(
    "router",
    [
        *("softmax_topk", "softmax_topk_renorm", "topk_softmax", "sigmoid_topk", "topk_sigmoid", "sqrt_softplus_topk"),
        *("sparsemixer", "softmax_topk:groups=2,top_groups=1", "sigmoid_topk:groups=2,top_groups=1,bias=1"),
    ],
)
def test_infinite_logits_have_finite_gates_and_gradients(router: str) -> None:
    inf = math.inf
    logits_TE = torch.tensor([[inf, 0, 1, 2], [inf, inf, 0, 1], [-inf, 0, 1, 2], [-inf] * 4, [inf, -inf, -inf, -inf]])
    routing = routed(router, logits_TE.requires_grad_(), 2)
    (gradient_TE,) = torch.autograd.grad(routing.gates_TK.sum(), logits_TE)
    assert routing.gates_TK.isfinite().all()
    assert gradient_TE.isfinite().all()
    assert all(len(set(row)) == 2 for row in routing.ids_TK.tolist())
    assert (routing.gates_TK[0, 0] > routing.gates_TK[0, 1]).item() or router in {"topk_sigmoid", "sparsemixer"}
    assert routing.gates_TK[1, 0] == routing.gates_TK[1, 1] or router == "sparsemixer"
