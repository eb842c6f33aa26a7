"""The softmax routers choose the largest logits, with the probabilities that their formulas give."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moebench.kernels.problem import InvalidProblem, Problem
from moebench.kernels.problem.draw_routes import routed

SOFTMAX = pytest.mark.parametrize("router", ["softmax_topk", "softmax_topk_renorm"])


@st.composite
def logits_and_K(draw: st.DrawFn) -> tuple[Tensor, int]:
    T, E = draw(st.integers(0, 20)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    scale = draw(st.sampled_from([0.1, 1.0, 10.0]))
    return torch.randn(T, E, generator=generator) * scale, draw(st.integers(1, E))


@given(case=logits_and_K())
@SOFTMAX
def test_routes_are_the_K_largest_logits_each_once_in_order(router: str, case: tuple[Tensor, int]) -> None:
    logits_TE, K = case
    routing = routed(router, logits_TE, K)
    assert routing.experts == logits_TE.shape[1]
    torch.testing.assert_close(routing.ids_TK.long(), logits_TE.sort(descending=True, stable=True).indices[:, :K])
    assert all(len(set(row)) == K for row in routing.ids_TK.tolist())


@given(case=logits_and_K())
def test_plain_gates_are_the_probabilities_of_the_chosen(case: tuple[Tensor, int]) -> None:
    logits_TE, K = case
    routing = routed("softmax_topk", logits_TE, K)
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
    routing = routed("softmax_topk_renorm", logits_TE, K)
    expected_TK = torch.softmax(logits_TE.double().topk(K, dim=1).values, dim=1)
    torch.testing.assert_close(routing.gates_TK.double(), expected_TK, rtol=1e-5, atol=0)
    torch.testing.assert_close(routing.gates_TK.sum(1), torch.ones(len(logits_TE)))


@given(case=logits_and_K())
def test_switch_is_the_argmax_with_its_probability(case: tuple[Tensor, int]) -> None:
    logits_TE, _ = case
    routing = routed("switch", logits_TE, 1)
    torch.testing.assert_close(routing.ids_TK[:, 0].long(), logits_TE.argmax(1))
    torch.testing.assert_close(routing.gates_TK[:, 0], torch.softmax(logits_TE, 1).amax(1))


@SOFTMAX
def test_of_equal_logits_the_lower_index_comes_first(router: str) -> None:
    logits_TE = torch.zeros(1, 300)
    logits_TE[0, 200:] = 1.0
    logits_TE[0, 7] = -0.0
    assert routed(router, logits_TE, 130).ids_TK.tolist() == [[*range(200, 300), *range(30)]]


def test_switch_takes_one_expert_only() -> None:
    with pytest.raises(InvalidProblem, match="router = 'switch' takes one expert per token, not K = 2: give K = 1"):
        Problem(T=1, D=1, F=1, E=4, K=2, router="switch")


@SOFTMAX
def test_experts_whose_probability_vanishes_in_float32_keep_their_order(router: str) -> None:
    routing = routed(router, torch.tensor([[-300.0, -200.0, 0.0, -150.0, -400.0]]), 4)
    assert routing.ids_TK.tolist() == [[2, 3, 1, 0]]
    assert routing.gates_TK.tolist() == [[1.0, 0.0, 0.0, 0.0]]
