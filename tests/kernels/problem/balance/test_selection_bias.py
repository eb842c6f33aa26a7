"""The update of selection biases balances what a skewed load would not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.problem import Problem
from moebench.kernels.problem.balance.selection_bias import updated_biases
from moebench.kernels.problem.draw_routes import draw_router_inputs, route
from moebench.kernels.problem.router import Router, RouterInputs


def skewed(router: str, bias_E: torch.Tensor, seed: int) -> torch.Tensor:
    """Return the routes that each of 16 experts gets of tokens under a Zipf load."""
    problem = Problem(T=1024, D=1, F=1, E=16, K=2, router=router, load="zipf:1")
    logits_TE = draw_router_inputs(problem, seed=seed).logits_TE
    return route(Router.parse(router), RouterInputs(logits_TE=logits_TE, bias_E=bias_E), problem.K).counts_E()


@pytest.mark.parametrize("router", ["sigmoid_topk", "softmax_topk", "topk_sigmoid"])
def test_repeated_updates_balance_a_skewed_load_on_tokens_that_they_have_not_seen(router: str) -> None:
    bias_E = torch.zeros(16)
    before_E = skewed(router, bias_E, seed=999)
    for step in range(400):
        rate = 0.03 if step < 200 else 5e-4  # logits, of topk_sigmoid, span more than scores do
        bias_E = updated_biases(bias_E, skewed(router, bias_E, seed=step), rate=rate)
    after_E = skewed(router, bias_E, seed=999)
    assert before_E.sum() == after_E.sum()
    assert before_E.max() / before_E.float().mean() > 2.5
    assert after_E.max() / after_E.float().mean() < 1.25


@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=20), rate=st.floats(1e-4, 1))
def test_a_bias_rises_by_the_rate_where_an_expert_is_below_the_mean_and_falls_above_it(
    counts: list[int], rate: float
) -> None:
    bias_E = torch.linspace(-1, 1, len(counts), dtype=torch.float64)
    moved_E = (updated_biases(bias_E, torch.tensor(counts), rate=rate) - bias_E).tolist()
    for count, moved in zip(counts, moved_E, strict=True):
        sign = (sum(counts) > count * len(counts)) - (sum(counts) < count * len(counts))
        assert moved == pytest.approx(rate * sign, abs=1e-12)
