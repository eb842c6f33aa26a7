"""Losses of routers against their formulas in plain Python, and their values where they are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moebench.kernels.problem.balance.router_losses import (
    expert_entropy,
    load_balancing_loss,
    squared_variation,
    token_entropy,
    z_loss,
)


@st.composite
def routed(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Draw logits (T, E) and ids (T, K), some of them absent."""
    T, E = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    K = draw(st.integers(1, E))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    logits_TE = torch.randn(T, E, generator=generator) * 3
    ids_TK = logits_TE.topk(K).indices.int()
    absent_TK = torch.rand(T, K, generator=generator) < draw(st.sampled_from([0.0, 0.3]))
    return logits_TE, ids_TK.masked_fill(absent_TK, -1)


@given(case=routed())
def test_load_balancing_is_the_sum_over_experts_of_routes_times_probability(case: tuple[Tensor, Tensor]) -> None:
    logits_TE, ids_TK = case
    probabilities_TE = logits_TE.softmax(1)
    (T, E), flat = logits_TE.shape, [e for e in ids_TK.flatten().tolist() if e >= 0]
    expected = sum(
        E * flat.count(e) / max(1, len(flat)) * sum(float(probabilities_TE[t, e]) for t in range(T)) / T
        for e in range(E)
    )
    assert float(load_balancing_loss(probabilities_TE, ids_TK)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("E", [1, 4, 64])
def test_load_balancing_is_one_where_balanced_and_E_where_one_expert_has_all(E: int) -> None:
    even_TE, hot_TE = torch.full((E, E), 1 / E), torch.eye(E)[[0] * E]
    assert float(load_balancing_loss(even_TE, torch.arange(E)[:, None])) == pytest.approx(1)
    assert float(load_balancing_loss(hot_TE, torch.zeros(E, 1, dtype=torch.int32))) == pytest.approx(E)


@given(case=routed())
def test_z_loss_and_entropies_are_their_formulas(case: tuple[Tensor, Tensor]) -> None:
    logits = case[0].double().tolist()
    T = len(logits)
    sums = [sum(map(math.exp, row)) for row in logits]
    shares = [[math.exp(z) / total for z in row] for row, total in zip(logits, sums, strict=True)]
    assert float(z_loss(case[0])) == pytest.approx(sum(math.log(total) ** 2 for total in sums) / T, rel=1e-4, abs=1e-6)

    def entropy(row: list[float]) -> float:
        return -sum(p * math.log(p) for p in row if p)

    mean = [sum(column) / T for column in zip(*shares, strict=True)]
    probabilities_TE = case[0].softmax(1)
    assert float(expert_entropy(probabilities_TE)) == pytest.approx(entropy(mean), rel=1e-3, abs=1e-5)
    assert float(token_entropy(probabilities_TE)) == pytest.approx(sum(map(entropy, shares)) / T, rel=1e-3, abs=1e-5)


@given(case=routed())
def test_tokens_and_experts_share_no_less_than_no_information(case: tuple[Tensor, Tensor]) -> None:
    """H(m|x) ≤ H(m) ≤ log E, by the concavity of entropy."""
    probabilities_TE = case[0].softmax(1)
    of_experts, of_tokens = float(expert_entropy(probabilities_TE)), float(token_entropy(probabilities_TE))
    assert -1e-5 <= of_tokens <= of_experts + 1e-5
    assert of_experts <= math.log(case[0].shape[1]) + 1e-5


@given(amounts=st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_squared_variation_is_variance_over_squared_mean(amounts: list[int]) -> None:
    mean = sum(amounts) / len(amounts)
    expected = sum((a - mean) ** 2 for a in amounts) / len(amounts) / mean**2 if mean else 0
    assert float(squared_variation(torch.tensor(amounts))) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_losses_have_gradients_that_push_towards_balance() -> None:
    """A step against the gradient lowers the probability of the expert that has more than its share."""
    logits_TE = torch.tensor([[2.0, 0.0], [2.0, 0.0], [1.0, 0.0]], requires_grad=True)
    load_balancing_loss(logits_TE.softmax(1), torch.zeros(3, 1, dtype=torch.int32)).backward()
    assert logits_TE.grad is not None
    assert (logits_TE.grad[:, 0] > 0).all()


def test_gradient_of_z_loss_is_twice_the_logarithm_times_the_probability() -> None:
    logits_TE = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    z_loss(logits_TE).backward()
    expected_TE = 2 / 4 * logits_TE.logsumexp(1, keepdim=True) * logits_TE.softmax(1)
    torch.testing.assert_close(logits_TE.grad, expected_TE.detach())
