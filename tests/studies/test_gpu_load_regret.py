"""Under uneven loads the tiles for an even one lose by the static model, and those for the observed load less."""

from __future__ import annotations

import pytest
from gpu_load_regret import LOADS, TUNED, lines, main, regrets, taken

from moebench.kernels.problem import Problem
from moebench.kernels.problem.models import model


def test_a_layer_takes_the_nearer_of_two_loads_that_a_table_has() -> None:
    problem = Problem(T=64, D=8, F=8, E=128, K=8, router="softmax_topk")
    near = {"uniform": "uniform", "zipf:0.25": "uniform", "hot": "uniform", "zipf:1": "zipf:1", "zipf:2": "zipf:1"}
    assert {load: taken(problem.replace(load=load)) for load in near} == near


def test_what_was_tuned_loses_nothing_and_the_observed_less_than_the_uniform() -> None:
    """Mixtral at 256 tokens: one expert has most rows under Zipf's law, so that higher tiles pay."""
    found = regrets(model("Mixtral-8x7B").problem(T=256, dtype="bfloat16"), "sm_90", TUNED)
    even, skewed = found
    assert (even.uniform, even.observed, skewed.observed) == (0, 0, 0)
    assert 0.02 < skewed.uniform < 0.5


def test_the_table_has_a_row_for_each_batch_and_the_target_must_be_known() -> None:
    head, _, row = lines("sm_90", ["Mixtral-8x7B"], [4096])
    assert head.count("|") == row.count("|") == len(LOADS) + 3
    with pytest.raises(SystemExit, match="no target is named sm_1: give one of"):
        main(["sm_1"])
