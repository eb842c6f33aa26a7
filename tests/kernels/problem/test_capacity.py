"""Capacity rules: the published figures for one example, and limits that hold for all of them."""

from __future__ import annotations

from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.problem import Problem
from moebench.kernels.problem.capacity import CapacityRule, rows_of_expert


@pytest.mark.parametrize(("rule", "rows"), [("ceil", 40), ("floor", 39), ("gshard", 39), ("tutel", 40), ("vmoe", 40)])
def test_public_systems_disagree_on_the_same_example(rule: CapacityRule, rows: int) -> None:
    assert rows_of_expert(rule, 1.25, T=1000, K=2, E=64) == rows


@pytest.mark.parametrize(("rule", "rows"), [("ceil", 3), ("floor", 2), ("gshard", 4), ("tutel", 4), ("vmoe", 4)])
def test_few_tokens_tell_the_rules_apart(rule: CapacityRule, rows: int) -> None:
    """f T K / E = 2.5; Tutel takes 1 of ceil(16 / 16) for each of the 2 choices, times 1.25 rounded down."""
    found = rows_of_expert(rule, 1.25, T=16, K=2, E=16)
    assert found == {"tutel": 2}.get(rule, rows)


@given(
    rule=st.sampled_from(get_args(CapacityRule)),
    factor=st.floats(0.01, 20),
    T=st.integers(0, 5000),
    E=st.integers(1, 512),
    K=st.integers(1, 16),
)
def test_capacity_lies_between_one_and_all_tokens_and_near_the_mean(
    rule: CapacityRule, factor: float, T: int, E: int, K: int
) -> None:
    found = rows_of_expert(rule, factor, T=T, K=K, E=E)
    mean = float(Fraction(str(factor)) * T * K / E)
    below = K if rule == "tutel" else 1
    above = max(4.0, K * factor)
    assert 1 <= found <= max(1, T)
    assert min(mean - below, T) <= found + 1e-9
    assert found <= max(1.0, mean + above)


def test_problem_counts_its_capacity_by_its_rule_on_each_rank() -> None:
    problem = Problem(T=2000, D=1, F=1, E=64, K=2, capacity_factor=1.25, ranks=2)
    assert [problem.replace(capacity_rule=rule).capacity for rule in get_args(CapacityRule)] == [40, 39, 39, 40, 40]
