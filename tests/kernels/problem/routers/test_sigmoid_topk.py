"""The sigmoid router against DeepSeek-V3's formulas, token by token in plain Python."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from moebench.kernels.problem import InvalidProblem, Problem
from moebench.kernels.problem.draw_routes import draw_routes, routed
from moebench.kernels.problem.popularity import Tallied, choices
from moebench.kernels.problem.router import Router, RouterInputs
from moebench.kernels.problem.routers.sigmoid_topk import SigmoidTopk
from moebench.kernels.problem.topk_rule import TopkRule, choose

CPU = torch.device("cpu")
V3 = "sigmoid_topk:groups=8,top_groups=4,scale=2.5"
LAYER = Problem(T=2048, D=1, F=1, E=64, K=8, router=V3)


@dataclass(frozen=True)
class Case:
    """Logits (T, E) and biases (E,) for one setting of the router."""

    logits_TE: Tensor
    biases_E: Tensor
    K: int
    groups: int
    top_groups: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a case whose logits and biases come from few values, so that experts and groups tie."""
    groups = draw(st.integers(1, 5))
    size = draw(st.integers(2 if groups > 1 else 1, 6))
    top_groups = draw(st.integers(1, max(1, groups - 1)))
    T, E, K = draw(st.integers(0, 8)), groups * size, draw(st.integers(1, top_groups * size))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    values, biases = (rng.normal(size=draw(st.integers(1, 40))) * draw(st.sampled_from([0.1, 3, 40])) for _ in range(2))
    return Case(
        logits_TE=torch.from_numpy(rng.choice(values, (T, E)).astype(np.float32)),
        biases_E=torch.from_numpy(rng.choice(biases, E).astype(np.float32)),
        K=K,
        groups=groups,
        top_groups=top_groups,
    )


def chosen_by_loop(case: Case, logits_E: list[float]) -> list[int]:
    """Choose one token's experts one at a time, by scores that are rounded to float32 as the released model's are."""
    scores = [np.float32(1 / (1 + math.exp(-logit))) for logit in logits_E]
    selection = [score + np.float32(bias) for score, bias in zip(scores, case.biases_E.tolist(), strict=True)]
    size = len(logits_E) // case.groups
    members = [range(group * size, (group + 1) * size) for group in range(case.groups)]
    sums = [sum(sorted((selection[e] for e in group), reverse=True)[:2]) for group in members]
    best = sorted(range(case.groups), key=lambda group: -sums[group])[: case.top_groups]
    left = [e for group in best for e in members[group]]
    found: list[int] = []
    for _ in range(case.K):
        found.append(min(set(left) - set(found), key=lambda e: (-selection[e], -logits_E[e], e)))
    return found


@given(case=cases())
@example(case=Case(torch.zeros(3, 8), torch.zeros(8), K=4, groups=4, top_groups=2))
@example(case=Case(torch.tensor([[40.0, 50.0, 60.0, 60.0]]), torch.zeros(4), K=3, groups=1, top_groups=1))
def test_experts_are_those_that_a_loop_over_tokens_chooses(case: Case) -> None:
    rule = TopkRule(score="sigmoid", groups=case.groups, top_groups=case.top_groups, group_best=2)
    ids_TK = choose(rule, case.logits_TE, case.biases_E, case.K)
    assert ids_TK.tolist() == [chosen_by_loop(case, row) for row in case.logits_TE.tolist()]


@given(case=cases(), renormalise=st.booleans(), scale=st.sampled_from([1.0, 2.5, 0.125]))
def test_gates_are_scores_without_the_bias_renormalised_and_scaled(case: Case, renormalise: bool, scale: float) -> None:
    router = SigmoidTopk(renormalise=renormalise, scale=scale, bias=1.0)
    ids_TK, gates_TK = router.route(RouterInputs(logits_TE=case.logits_TE), case.K)
    for ids, gates, logits in zip(ids_TK.tolist(), gates_TK.tolist(), case.logits_TE.tolist(), strict=True):
        scores = [1 / (1 + math.exp(-logits[e])) for e in ids]
        total = sum(scores) if renormalise else 1.0
        assert gates == pytest.approx([scale * score / total for score in scores], rel=1e-6, abs=1e-44)


def test_the_bias_changes_which_experts_are_chosen_and_not_what_they_weigh() -> None:
    logits_TE = torch.randn(500, 32, generator=torch.Generator().manual_seed(0))
    plain, biased = (routed(f"sigmoid_topk:bias={bias},renormalise=false", logits_TE, 4) for bias in (0, 0.3))
    assert 0.02 < (plain.ids_TK != biased.ids_TK).float().mean() < 0.98
    for routing in (plain, biased):
        torch.testing.assert_close(routing.gates_TK, logits_TE.sigmoid().gather(1, routing.ids_TK.long()))


def test_gates_carry_the_gradient_of_the_formula() -> None:
    logits_TE = torch.randn(5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    dgates_TK = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    routing = routed("sigmoid_topk:groups=4,top_groups=2,bias=0.1,scale=2.5", logits_TE, 4)
    (found_TE,) = torch.autograd.grad(routing.gates_TK, logits_TE, dgates_TK)
    scores_TK = logits_TE.sigmoid().gather(1, routing.ids_TK.long())
    (expected_TE,) = torch.autograd.grad(
        2.5 * scores_TK / scores_TK.sum(1, keepdim=True), logits_TE, dgates_TK.double()
    )
    torch.testing.assert_close(found_TE, expected_TE, rtol=1e-5, atol=1e-7)


def test_scores_far_below_what_float32_holds_still_weigh_and_rank() -> None:
    routing = routed("sigmoid_topk", torch.tensor([[-300.0, -200.0, -200.0, -math.inf]]), 3)
    assert routing.ids_TK.tolist() == [[1, 2, 0]]
    torch.testing.assert_close(routing.gates_TK, torch.tensor([[0.5, 0.5, 0.0]]))


def test_an_expert_that_the_load_never_uses_is_not_chosen_for_its_bias() -> None:
    problem = LAYER.replace(router="sigmoid_topk:bias=100", load="empty:0.5")
    assert draw_routes(problem, seed=1, device=CPU).touched() <= problem.E // 2


def test_without_bias_and_groups_it_chooses_as_softmax_does() -> None:
    sigmoid, softmax = (
        draw_routes(LAYER.replace(router=router, load="zipf:1.2"), seed=1, device=CPU)
        for router in ("sigmoid_topk", "softmax_topk")
    )
    assert torch.equal(sigmoid.ids_TK, softmax.ids_TK)


def most_groups(problem: Problem) -> int:
    """Return the most groups of 8 experts that a token of the problem reaches."""
    ids_TK = draw_routes(problem, seed=1, device=CPU).ids_TK
    return max(len({e // 8 for e in row}) for row in ids_TK.tolist())


@pytest.mark.parametrize("load", ["uniform", "zipf:1.2", "hot"])
def test_a_token_reaches_no_more_groups_than_it_may(load: str) -> None:
    problem = LAYER.replace(load=load)
    assert most_groups(problem) == 4
    assert most_groups(problem.replace(router="sigmoid_topk")) > 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"E": 60}, "needs 2 experts or more in each of 8 equal groups, not E = 60"),
        ({"E": 8, "K": 2}, "needs 2 experts or more in each of 8 equal groups, not E = 8"),
        ({"K": 33}, "leaves 32 experts to a token, not K = 33"),
        ({"load": "empty:0.5"}, "load = 'empty:0.5' never uses"),
    ],
)
def test_a_problem_that_groups_do_not_fit_is_refused_with_its_value(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidProblem, match=f"router = '{V3}' .*{said}"):
        LAYER.replace(**changes)


@pytest.mark.parametrize(("groups", "top_groups"), [(4, 4), (4, 5), (1, 2)])
def test_groups_that_limit_nothing_are_refused(groups: int, top_groups: int) -> None:
    """Without this check two texts would name one router."""
    with pytest.raises(ValueError, match=f"top_groups = {top_groups} of groups = {groups}"):
        Router.parse(f"sigmoid_topk:groups={groups},top_groups={top_groups}")


def test_popularity_under_groups_and_biases_is_counted_in_routes() -> None:
    """A closed form of the load alone would be wrong by far: this holds it to the routes of other tokens."""
    problem = LAYER.replace(router=f"{V3},bias=0.2", load="zipf:0.5", T=20_000)
    found = choices(problem)
    assert isinstance(found, Tallied)
    ids_TK = draw_routes(problem, seed=99, device=CPU).ids_TK.numpy()
    owner_E: NDArray[np.int64] = np.arange(problem.E) // 8
    for owners in (np.arange(problem.E), owner_E):
        np.testing.assert_allclose(found.hit(owners), Tallied(ids_TK, problem.E).hit(owners), atol=0.05)
    assert found.hit(owner_E).sum() <= 4 + 1e-9
    assert not np.allclose(choices(problem.replace(router="sigmoid_topk")).hit(owner_E), found.hit(owner_E), atol=0.05)


def test_a_part_of_the_experts_is_routed_without_groups() -> None:
    assert LAYER.dense().router == "sigmoid_topk:scale=2.5"


def test_a_token_stays_in_its_best_groups_though_an_expert_there_is_never_to_be_chosen() -> None:
    logits_TE = torch.tensor([[5.0, -math.inf, 1.0, 2.0]])
    rule = TopkRule(score="sigmoid", groups=2, top_groups=1)
    for bias_E in (None, torch.zeros(4)):
        assert choose(rule, logits_TE, bias_E, 2).tolist() == [[0, 1]]
