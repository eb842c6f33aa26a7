"""Cases for kernels of top-k rules, and what the plain rule makes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from moebench.kernels.fused_router.topk_router import Backend
from moebench.kernels.problem.router import Router
from moebench.kernels.problem.topk_rule import TopkRule, choose, weigh

RULES = {
    "softmax": TopkRule(score="softmax"),
    "softmax scaled, renormalised": TopkRule(score="softmax", renormalise=True, scale=2.5),
    "softmax of the chosen": TopkRule(score="softmax", selects_logits=True, renormalise=True),
    "softmax in groups": TopkRule(score="softmax", groups=4, top_groups=2, scale=16.0),
    "softmax in groups by two": TopkRule(score="softmax", groups=4, top_groups=3, group_best=2),
    "sigmoid": TopkRule(score="sigmoid", scale=0.5),
    "sigmoid of chosen logits": TopkRule(score="sigmoid", selects_logits=True),
    "sigmoid in groups": TopkRule(score="sigmoid", groups=4, top_groups=2, group_best=2, renormalise=True, scale=2.5),
    "sigmoid with shared experts": TopkRule(score="sigmoid", renormalise=True, shared=3),
    "sqrt softplus": TopkRule(score="sqrt_softplus", renormalise=True, scale=1.5),
    "sqrt softplus in groups": TopkRule(score="sqrt_softplus", groups=4, top_groups=2, group_best=2),
    "sqrt softplus as it is": TopkRule(score="sqrt_softplus"),
}
SHAPES = [(0, 8, 2), (1, 8, 1), (9, 12, 6), (5, 60, 4), (3, 300, 8), (2, 32, 16)]
EXTREMES = {
    "infinite": [math.inf, 1.0, -math.inf, 0.0, math.inf, -1.0, 2.0, 0.5],
    "all minus infinity": [-math.inf] * 8,
    "half minus infinity": [-math.inf] * 4 + [1.0, -math.inf, -math.inf, 0.0],
    "both zeros": [-0.0, 0.0, -0.0, 0.0, -1.0, -1.0, 0.0, -0.0],
    "far from zero": [-1e4, 1e4, -200.0, 40.0, 1e4, -1e4, 60.0, -90.0],
    "far below zero": [-90.0, -80.0, -85.0, -75.0, -65.0, -70.0, -60.0, -62.0],
    "nearly equal": [20.0, 20.000002, 25.0, 24.999998, 30.0, 20.0, 25.0, 18.0],
}


SPECS = (
    "switch",
    "topk_softmax",
    "softmax_topk:zero_experts=4,scale=6",
    "softmax_topk_renorm",
    "sigmoid_topk:groups=4,top_groups=2,bias=0.1,scale=2.5",
    "sigmoid_topk:shared_experts=2",
    "sqrt_softplus_topk:bias=0.5",
    "topk_sigmoid",
    "fixed_random",
)
"""A router of every file that is a rule, but for one whose rule is another's."""


def columns_of(router: Router, experts: int) -> int:
    """Return the number of logits of a token."""
    return experts + router.extra_columns


@dataclass(frozen=True, kw_only=True)
class RuleCase:
    """Inputs of a rule: logits (T, E + shared) and biases (E,), or None."""

    rule: TopkRule
    logits_TE: Tensor
    bias_E: Tensor | None
    K: int

    def expected(self) -> tuple[Tensor, Tensor]:
        """Return ids, int32, and gates of the plain rule."""
        ids_TK = choose(self.rule, self.logits_TE, self.bias_E, self.K)
        return ids_TK.int(), weigh(self.rule, self.logits_TE, ids_TK)

    def expected_gradient(self, ids_TK: Tensor, dgates_TK: Tensor) -> Tensor:
        """Return the gradient of the logits that torch makes of the gates of the plain rule."""
        logits_TE = self.logits_TE.clone().requires_grad_()
        gates_TK = weigh(self.rule, logits_TE, ids_TK.long())
        (dlogits_TE,) = torch.autograd.grad(gates_TK, logits_TE, dgates_TK)
        return dlogits_TE


def case(rule: TopkRule, shape: tuple[int, int, int], *, biased: bool, levels: int | None = None) -> RuleCase:
    """Draw a case; with few ``levels`` many logits are equal, some of them 0.0 beside -0.0."""
    T, E, K = shape
    generator = torch.Generator().manual_seed(T + E)
    logits_TE = torch.randn(T, E + rule.shared, generator=generator) * 4
    if levels is not None:
        logits_TE = (logits_TE * levels / 8).round() / levels
    bias_E = torch.randn(E, generator=generator) * 0.3 if biased else None
    K = min(K, E // rule.groups * rule.top_groups if rule.groups > 1 else E)
    return RuleCase(rule=rule, logits_TE=logits_TE, bias_E=bias_E, K=K)


def extreme_case(rule: TopkRule, *, biased: bool) -> RuleCase:
    """Return a case with a token for each of `EXTREMES`."""
    logits_TE = torch.tensor(list(EXTREMES.values()))
    shared_TH = torch.linspace(-2, 2, len(logits_TE) * rule.shared).view(len(logits_TE), rule.shared)
    bias_E = torch.linspace(-0.5, 0.5, 8) if biased else None
    return RuleCase(rule=rule, logits_TE=torch.cat((logits_TE, shared_TH), 1), bias_E=bias_E, K=4)


def assert_as_the_plain_rule(backend: Backend, device: torch.device, one: RuleCase) -> None:
    """Check ids bit for bit, gates and gradients within rounding."""
    expected_ids_TK, expected_gates_TK = one.expected()
    logits_TE = one.logits_TE.to(device)
    bias_E = None if one.bias_E is None else one.bias_E.to(device)
    ids_TK, gates_TK = backend.choose_experts(one.rule, logits_TE, bias_E, one.K)
    assert torch.equal(ids_TK.cpu(), expected_ids_TK)
    torch.testing.assert_close(gates_TK.cpu(), expected_gates_TK, rtol=2e-6, atol=1e-37)
    dgates_TK = torch.linspace(-1, 1, gates_TK.numel()).view(gates_TK.shape) + 0.1
    found_TE = backend.differentiate_gates(one.rule, logits_TE, ids_TK, gates_TK, dgates_TK.to(device))
    expected_TE = one.expected_gradient(expected_ids_TK, dgates_TK)
    torch.testing.assert_close(found_TE.cpu(), expected_TE, rtol=1e-4, atol=2e-6 * one.rule.scale)
