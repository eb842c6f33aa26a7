"""Steps of the implementations in torch: what they count, against what the implementations say and do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
import torch

from moebench.kernels.catalog import KERNELS
from moebench.kernels.cost_model.cpu import FRESH_BYTES, Operations
from moebench.kernels.cost_model.expert_rows import expected_routing
from moebench.kernels.problem import Problem
from moebench.kernels.steps import Rates

CPU = torch.device("cpu")
RATES = Rates(flops_per_s=9e11, bytes_per_s=6e10, call_s=4e-6)
PROBLEM = Problem(T=512, D=512, F=192, E=128, K=8, dtype="bfloat16")
MODELLED = ("loop", "grouped", "scatter", "padded", "block_sparse", "gshard_einsum")


def steps(name: str, problem: Problem) -> Sequence[Operations]:
    kernel = KERNELS.load(name)
    return cast(
        Sequence[Operations],
        kernel.steps(problem, kernel.space(problem, CPU)[0], expected_routing(problem), CPU),
    )


def seconds(name: str, problem: Problem) -> float:
    return sum(step.seconds(RATES) for step in steps(name, problem))


@pytest.mark.parametrize("name", MODELLED)
@pytest.mark.parametrize("mode", ["forward", "train"])
def test_the_flops_are_those_of_the_executed_rows(name: str, mode: str) -> None:
    """Both products of every row that the cost counts, padding included, thrice in training; plus what is extra."""
    problem, kernel = PROBLEM.replace(mode=mode), KERNELS.load(name)
    cost = kernel.cost(problem, kernel.space(problem, CPU)[0], expected_routing(problem))
    extra = cost.extra_flops * (3 if mode == "train" else 1)
    assert sum(step.flops for step in steps(name, problem)) == problem.flops(cost.executed_rows) + extra


@pytest.mark.parametrize("name", MODELLED)
@pytest.mark.parametrize(
    "changes", [{}, {"T": 0}, {"T": 1}, {"gated": False}, {"load": "hot"}, {"load": "empty:0.5"}, {"dtype": "float16"}]
)
def test_every_amount_is_finite_and_training_takes_longer(name: str, changes: dict[str, object]) -> None:
    problem = PROBLEM.replace(**changes)
    train = problem.replace(mode="train")
    for step in (*steps(name, problem), *steps(name, train)):
        assert min(step.calls, step.flops, step.bytes, step.fresh, step.gated) >= 0
        assert 0 <= step.seconds(RATES) < 100
        assert step.why(RATES)
    assert seconds(name, problem) < seconds(name, train)


def test_a_quantised_weight_has_a_model_too() -> None:
    assert seconds("loop", PROBLEM.replace(dtype="float8_e4m3fn")) > 0


@pytest.mark.parametrize("name", MODELLED)
def test_there_is_no_model_of_a_gpu(name: str) -> None:
    kernel = KERNELS.load(name)
    config, routing = kernel.space(PROBLEM, CPU)[0], expected_routing(PROBLEM)
    assert kernel.steps(PROBLEM, config, routing, torch.device("meta")) == ()


def test_what_leaves_the_cache_lies_in_new_pages_only_where_all_rows_are_kept() -> None:
    """Compare with getrusage: 494 MB of new pages a call of `padded`, 448 of `grouped`, none of `scatter`, `loop`."""
    large = PROBLEM.replace(T=8192, dtype="float32")
    fresh = {name: sum(step.fresh for step in steps(name, large)) for name in MODELLED}
    assert fresh["scatter"] == fresh["loop"] == 0
    assert fresh["grouped"] == pytest.approx(448 << 20, rel=0.03)
    assert fresh["padded"] == pytest.approx(494 << 20, rel=0.03)
    assert all(not 0 < step.fresh < FRESH_BYTES for name in MODELLED for step in steps(name, large))


def test_padding_is_for_many_small_experts_and_not_for_uneven_loads() -> None:
    assert seconds("padded", PROBLEM) < seconds("grouped", PROBLEM) < seconds("scatter", PROBLEM)
    hot = PROBLEM.replace(load="hot")
    assert seconds("padded", hot) > 3 * seconds("grouped", hot)
