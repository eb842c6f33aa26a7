"""The Triton kernels of top-k rules choose as the plain rule does, with the same gates and gradients."""

from __future__ import annotations

import pytest
import torch
from exhaustive import all_but
from fused_rules import RULES, SHAPES, assert_as_the_plain_rule, case, extreme_case

from moebench.kernels.problem.topk_rule import TopkRule

pytest.importorskip("triton")
from moebench.kernels.fused_router import router_launches

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

every_rule = pytest.mark.parametrize("name", RULES)
with_and_without_biases = pytest.mark.parametrize("biased", all_but([True], [False, True]))


@every_rule
@with_and_without_biases
@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_same_experts_gates_and_gradients(
    name: str, biased: bool, levels: int | None, shape: tuple[int, int, int]
) -> None:
    assert_as_the_plain_rule(router_launches, DEVICE, case(RULES[name], shape, biased=biased, levels=levels))


@pytest.mark.gpu  # each of the other tests has a kernel to compile for every shape
@every_rule
@with_and_without_biases
def test_infinities_and_ties_are_those_of_the_plain_rule(name: str, biased: bool) -> None:
    assert_as_the_plain_rule(router_launches, DEVICE, extreme_case(RULES[name], biased=biased))


@pytest.mark.gpu
def test_several_programs_and_groups_that_are_no_power_of_two() -> None:
    rule = TopkRule(score="sigmoid", groups=5, top_groups=3, group_best=2, renormalise=True)
    assert_as_the_plain_rule(router_launches, DEVICE, case(rule, (301, 35, 6), biased=True))


@every_rule
def test_a_nan_chooses_each_expert_once(name: str) -> None:
    nan, rule = float("nan"), RULES[name]
    rows = [[1.0, nan, 3.0, nan, 2.0, 0.0, -1.0, 0.5], [nan] * 8]
    logits_TE = torch.cat((torch.tensor(rows), torch.zeros(2, rule.shared)), 1).to(DEVICE)
    ids_TK, _ = router_launches.choose_experts(rule, logits_TE, None, 4)
    assert ((ids_TK >= 0) & (ids_TK < 8)).all()
    assert [len(set(row)) for row in ids_TK.tolist()] == [4, 4]


def test_more_experts_than_registers_hold_are_left_to_others() -> None:
    assert router_launches.fits(TopkRule(score="softmax"), 8192)
    assert not router_launches.fits(TopkRule(score="softmax"), 8193)
