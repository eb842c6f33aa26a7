"""Layers are built once for each problem, by choices that are made for few numbers of tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.catalog import KERNELS
from moebench.kernels.module import built_layers
from moebench.kernels.module.built_layers import built, built_split, rounded_up
from moebench.kernels.problem import Problem
from moebench.kernels.tuned.select import Choice

CPU = torch.device("cpu")
PROBLEM = Problem(T=0, D=16, F=8, E=4, K=1, router="softmax_topk")
REST = (2, None, "forward", torch.float32, CPU, "auto", False)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_choices_are_made_for_few_numbers_of_tokens(one: int, more: int) -> None:
    """The numbers grow with the tokens, by a quarter at most, and there are four in each doubling."""
    assert one <= rounded_up(one) <= max(one + 1, one * 1.25)
    assert rounded_up(min(one, more)) <= rounded_up(max(one, more))
    assert len({rounded_up(T) for T in range(1025, 2049)}) == 4


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Collect the numbers of tokens that kernels are chosen for."""
    asked: list[int] = []

    def choose(problem: Problem, *_: object, **__: object) -> Choice:
        asked.append(problem.T)
        scatter = KERNELS.load("scatter")
        return Choice(scatter, next(one for one in scatter.space(problem, CPU) if one["tile"] == 64), "")

    built_layers.forget()
    monkeypatch.setattr(built_layers, "choose", choose)
    yield asked
    built_layers.forget()


def test_neighbouring_numbers_of_tokens_share_a_choice(chosen: list[int]) -> None:
    for T in (1030, 1100, 1279, 1280, 1281):
        built(PROBLEM, T, *REST)
    assert chosen == [1280, 1536]


def test_a_number_of_tokens_that_was_tuned_is_the_one_to_choose_for(
    chosen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table may end there: for a number above, which no table covers, another configuration would be chosen."""
    monkeypatch.setattr(built_layers, "tuned_tokens", lambda _: frozenset({64, 1000}))
    for T in (980, 1000, 1001):
        built(PROBLEM, T, *REST)
    assert chosen == [1000, 1024]


def test_a_configuration_that_cannot_run_just_as_many_tokens_is_chosen_anew(chosen: list[int]) -> None:
    """A tile of 64 rows is one of its own for 80 tokens, but for 9 it is no other than the default."""
    built(PROBLEM, 9, *REST)
    assert chosen == [10, 9]


def test_a_kernel_whose_passes_cannot_be_called_apart_is_replaced_in_training() -> None:
    for dispatch in ("auto", "grouped", "scatter"):
        layer = built_split(PROBLEM, 5, 2, torch.float32, CPU, dispatch, False)
        assert type(layer).__name__ == "ScatterLayer"
