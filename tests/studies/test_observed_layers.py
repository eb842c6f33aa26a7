"""The study of observing layers has a row for each point and load, judged by other rounds than those that chose."""

from __future__ import annotations

import numpy as np
from observed_layers import KERNELS_OF_LAYERS, Turns, lines

from moebench.kernels.module.observed_load import EVERY
from moebench.kernels.problem import Problem

SMALL = Problem(T=256, D=16, F=8, E=16, K=4, router="softmax_topk")


def test_it_has_a_row_for_each_load_with_what_the_layer_saw() -> None:
    heads, rule, *rows = lines([SMALL], ["uniform", "zipf:1"], rounds=4)
    assert heads.count("|") == rule.count("|") == 10
    assert [row.split(" | ")[2:4] for row in rows] == [["uniform", "uniform"], ["zipf:1", "zipf:1"]]
    assert EVERY <= 16, "the rounds that warm up are enough to see a load"


def test_the_best_is_chosen_by_even_rounds_and_judged_by_odd_ones() -> None:
    """The third competitor is the first kernel, which is fast in even rounds and slow in odd ones."""
    seconds_CR = np.full((2 + len(KERNELS_OF_LAYERS), 6), 4.0)
    seconds_CR[2] = [1, 8, 1, 8, 1, 8]
    found = Turns(problem=SMALL, even="padded", seen="uniform", kernels=KERNELS_OF_LAYERS, seconds_CR=seconds_CR)
    assert found.best == 2
    assert (found.over(0, 2).value, found.over(1, 0).value) == (0.5, 1.0)
