"""The CUDA kernels of top-k rules choose as the plain rule does, with the same gates and gradients."""

from __future__ import annotations

import pytest
import torch
from cuda_on_cpu import Machine
from fused_rules import RULES, SHAPES, SPECS, assert_as_the_plain_rule, case, columns_of, extreme_case

from moebench.kernels.cuda import topk_routing
from moebench.kernels.fused_router.topk_router import backend_for, route
from moebench.kernels.problem import draw_routes
from moebench.kernels.problem.router import Router, RouterInputs
from moebench.kernels.problem.topk_rule import TopkRule, choose

pytestmark = pytest.mark.gpu

every_rule = pytest.mark.parametrize("name", RULES)
with_and_without_biases = pytest.mark.parametrize("biased", [False, True])


@every_rule
@with_and_without_biases
@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_same_experts_gates_and_gradients(
    machine: Machine, name: str, biased: bool, levels: int | None, shape: tuple[int, int, int]
) -> None:
    with machine(sum(shape)) as device:
        assert_as_the_plain_rule(topk_routing, device, case(RULES[name], shape, biased=biased, levels=levels))


@every_rule
@with_and_without_biases
def test_infinities_and_ties_are_those_of_the_plain_rule(machine: Machine, name: str, biased: bool) -> None:
    with machine(3) as device:
        assert_as_the_plain_rule(topk_routing, device, extreme_case(RULES[name], biased=biased))


@pytest.mark.parametrize(("E", "K"), [(129, 129), (4096, 64), (12_000, 3)])
def test_all_experts_and_as_many_as_fit(machine: Machine, E: int, K: int) -> None:
    rule = TopkRule(score="sigmoid", renormalise=True)
    assert topk_routing.fits(rule, E)
    with machine(E) as device:
        assert_as_the_plain_rule(topk_routing, device, case(rule, (2, E, K), biased=True))


def test_more_experts_than_fit_are_left_to_others() -> None:
    assert not topk_routing.fits(TopkRule(score="softmax"), 13_000)


@every_rule
def test_a_nan_is_above_all_numbers_as_torch_sorts_it_and_chooses_each_expert_once(machine: Machine, name: str) -> None:
    nan, rule = float("nan"), RULES[name]
    rows = [[1.0, nan, 3.0, nan, 2.0, 0.0, -1.0, 0.5], [nan] * 8, [-nan, 1.0, -float("inf"), 0.0, 0.5, 2.0, nan, 4.0]]
    logits_TE = torch.cat((torch.tensor(rows), torch.zeros(3, rule.shared)), 1)
    with machine(2) as device:
        ids_TK, _ = topk_routing.choose_experts(rule, logits_TE.to(device), None, 4)
    assert [len(set(row)) for row in ids_TK.tolist()] == [4, 4, 4]
    if not rule.groups > 1 and rule.score != "softmax":
        assert torch.equal(ids_TK.cpu(), choose(rule, logits_TE, None, 4).int())


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_router_takes_the_kernels(machine: Machine, spec: str, dtype: torch.dtype) -> None:
    router = Router.parse(spec)
    K = 1 if spec == "switch" else 3
    logits_TE = torch.randn(7, columns_of(router, 16), generator=torch.Generator().manual_seed(0)).to(dtype)
    theirs_TE = logits_TE.clone().requires_grad_()
    expected = draw_routes.route(router, RouterInputs(logits_TE=theirs_TE), K)
    dgates_TK = torch.linspace(-1, 1, 7 * K).view(7, K)
    (expected_TE,) = torch.autograd.grad(expected.gates_TK, theirs_TE, dgates_TK)
    with machine(1) as device:
        mine_TE = logits_TE.to(device).requires_grad_()
        assert backend_for(router, mine_TE) is topk_routing
        found = route(router, RouterInputs(logits_TE=mine_TE), K)
        (found_TE,) = torch.autograd.grad(found.gates_TK, mine_TE, dgates_TK.to(device))
    assert found.experts == expected.experts
    assert torch.equal(found.ids_TK.cpu(), expected.ids_TK)
    torch.testing.assert_close(found.gates_TK.cpu(), expected.gates_TK, rtol=2e-6, atol=0)
    assert found_TE.dtype == dtype
    torch.testing.assert_close(found_TE.cpu(), expected_TE, rtol=2e-2 if dtype != torch.float32 else 1e-4, atol=1e-5)
