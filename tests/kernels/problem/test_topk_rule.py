"""A top-k rule chooses as a full sort of every token's experts by key, logit and index does."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from moebench.kernels.problem import topk_rule
from moebench.kernels.problem.topk_rule import TopkRule, choose, selection_scores

AWKWARD = [0.0, -0.0, 1.0, -1.0, 40.0, 41.0, 1e-30, 3e38, math.inf, -math.inf]
RULES = [
    TopkRule(score="softmax"),
    TopkRule(score="softmax", shared=1),
    TopkRule(score="sigmoid", groups=2, top_groups=1),
    TopkRule(score="sigmoid", groups=4, top_groups=2, group_best=2),
    TopkRule(score="sqrt_softplus"),
    TopkRule(score="softmax", selects_logits=True),
]


def sorted_choice(rule: TopkRule, row: Tensor, bias_E: Tensor | None, K: int) -> list[int]:
    """Sort the experts of one token in Python: NaN above all, larger keys, larger logits, lower indices."""
    row = row[: len(row) - rule.shared]
    by_logit = rule.selects_logits or (bias_E is None and not (rule.groups > 1 and rule.group_best > 1))
    keys_E = row if by_logit else selection_scores(rule, row[None])[0]
    keys_E = (keys_E if bias_E is None else keys_E + bias_E).clone()
    if not by_logit:
        keys_E[row == -math.inf] = -math.inf
    left_out = [False] * len(row)
    if rule.groups > 1:
        groups = keys_E.view(rule.groups, -1)
        sums = groups.sort(-1, descending=True).values[:, : rule.group_best].sum(-1).tolist()
        kept = sorted(range(rule.groups), key=lambda group: (*_falling(sums[group]), group))[: rule.top_groups]
        left_out = [e // groups.shape[1] not in kept for e in range(len(row))]
    keys, logits = keys_E.tolist(), row.tolist()
    return sorted(range(len(keys)), key=lambda e: (left_out[e], *_falling(keys[e]), *_falling(logits[e]), e))[:K]


def _falling(value: float) -> tuple[bool, float]:
    return (True, -value) if not math.isnan(value) else (False, 0.0)


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(data=st.data())
@settings(max_examples=60)
def test_choice_is_that_of_a_full_sort(rule: TopkRule, data: st.DataObject) -> None:
    value = st.sampled_from(AWKWARD) | st.floats(-50, 50, width=32)
    if rule.groups == 1:
        value |= st.just(math.nan)
    columns = 8 + rule.shared
    rows = data.draw(st.lists(st.lists(value, min_size=columns, max_size=columns), min_size=1, max_size=5))
    K = data.draw(st.integers(1, 8 * rule.top_groups // rule.groups))
    bias = data.draw(st.none() | st.lists(st.sampled_from([-0.5, 0.0, 0.25]), min_size=8, max_size=8))
    logits_TE, bias_E = torch.tensor(rows), None if bias is None else torch.tensor(bias)
    ids_TK = choose(rule, logits_TE, bias_E, K)
    assert ids_TK.tolist() == [sorted_choice(rule, row, bias_E, K) for row in logits_TE]


WIDE_RULES = [
    TopkRule(score="softmax"),
    TopkRule(score="sigmoid"),
    TopkRule(score="sqrt_softplus"),
    TopkRule(score="softmax", groups=8, top_groups=3),
    TopkRule(score="sigmoid", groups=8, top_groups=4, group_best=2),
    TopkRule(score="softmax", groups=4, top_groups=2, group_best=2),
]


@pytest.mark.parametrize("rule", WIDE_RULES, ids=str)
@given(
    seed=st.integers(0, 1000),
    around=st.sampled_from([-1.0, 0.5, 3.0]),
    step=st.sampled_from([1, 16, 256, 1 << 16]),
    biased=st.booleans(),
    columns=st.sampled_from([96, 256]),
)
@settings(max_examples=20)
def test_choice_among_different_scores_however_near_is_that_of_a_full_sort(
    rule: TopkRule, seed: int, around: float, step: int, biased: bool, columns: int
) -> None:
    """The logits of a token are ``step`` floats apart: scores in float32 may confuse their order."""
    generator = torch.Generator().manual_seed(seed)
    order_TE = torch.rand(4, columns, generator=generator).argsort(-1)
    logits_TE = (torch.tensor(around).view(torch.int32) + step * order_TE).int().view(torch.float32)
    bias_E = torch.randint(-1, 2, (columns,), generator=generator) * 0.125 if biased else None
    ids_TK = choose(rule, logits_TE, bias_E, 6)
    assert ids_TK.tolist() == [sorted_choice(rule, row, bias_E, 6) for row in logits_TE]


def test_scores_in_float32_are_within_the_error_that_choice_allows_for() -> None:
    logits_TE = torch.linspace(-200, 200, 1 << 16).view(256, 256)
    for score in ("sigmoid", "sqrt_softplus"):
        rule = TopkRule(score=score)
        bias_E = torch.linspace(-3, 3, 256)
        near_TE, error = topk_rule._near_keys(rule, logits_TE, bias_E)
        distance = float((near_TE.double() - topk_rule._exact_keys(rule, logits_TE, bias_E).double()).abs().max())
        assert 0 < distance < error / 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_many_equal_logits_go_to_the_lower_experts(dtype: torch.dtype) -> None:
    logits_TE = torch.randint(0, 3, (64, 300), generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = logits_TE.sort(dim=-1, descending=True, stable=True).indices
    for K in (1, 8, 299, 300):
        assert torch.equal(choose(TopkRule(score="softmax"), logits_TE, None, K), expected[:, :K])


def test_no_tokens_have_no_experts() -> None:
    assert choose(TopkRule(score="softmax"), torch.empty(0, 4), None, 2).shape == (0, 2)
