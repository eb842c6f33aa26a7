"""The balance on a record: that of the routes which the trial measured, with the losses of their router."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tasks import PROBLEM, task

from moebench.execution.trial.balance import balance_of
from moebench.execution.trial.trial import TrialRunner
from moebench.kernels.oracle import drop
from moebench.kernels.problem.draw_routes import check_seed, draw_routes
from moebench.kernels.problem.trace import load_of
from moebench.kernels.problem.traces.trace_writer import write_ids
from moebench.results.record import Balance, Record

CPU = torch.device("cpu")


def test_a_record_has_the_balance_of_the_routes_that_it_measured(runner: TrialRunner) -> None:
    problem = PROBLEM.replace(capacity_factor=0.5, load="zipf:1.2")
    (record,) = runner.run(task("padded", problem=problem), lambda _: None)
    assert record.balance is not None
    routed = draw_routes(problem, seed=check_seed(problem), device=CPU)
    kept = drop(problem, routed)
    assert record.balance == balance_of(problem, routed, kept, seed=check_seed(problem))
    assert record.balance.max_over_mean == pytest.approx(int(routed.counts_E().max()) * problem.E / problem.N)
    assert record.balance.sufficient_capacity_factor == pytest.approx(record.balance.max_over_mean)
    assert 0 < record.balance.dropped_gates < 1
    assert record.balance.losses is not None
    assert record.balance.losses.load_balancing > 1
    assert Record.model_validate_json(record.model_dump_json()).balance == record.balance


def test_a_search_does_not_compute_it(runner: TrialRunner) -> None:
    measured = task("padded")
    point = measured.point.model_copy(update={"stage": "search", "batch": 1})
    (record,) = runner.run(dataclasses.replace(measured, point=point), lambda _: None)
    assert record.balance is None


def test_a_recorded_load_has_no_losses_because_its_logits_are_not_known(tmp_path: Path) -> None:
    write_ids(tmp_path / "layer.npy", np.zeros((8, 1), dtype=np.int32))
    problem = PROBLEM.replace(K=1, load=load_of(tmp_path / "layer.npy"))
    routed = draw_routes(problem, seed=0, device=CPU)
    found = balance_of(problem, routed, routed, seed=0)
    assert found is not None
    assert found.losses is None
    assert found.dead_experts == problem.E - 1


def test_no_tokens_have_no_balance() -> None:
    problem = PROBLEM.replace(T=0)
    nothing = draw_routes(problem, seed=0, device=CPU)
    assert balance_of(problem, nothing, nothing, seed=0) is None


def test_more_skew_is_worse_by_every_measure() -> None:
    found: list[Balance] = []
    for load in ("uniform", "zipf:1", "hot"):
        problem = PROBLEM.replace(T=512, E=16, K=1, load=load, router="switch")
        routed = draw_routes(problem, seed=0, device=CPU)
        balance = balance_of(problem, routed, routed, seed=0)
        assert balance is not None
        found.append(balance)
    for measure in ("max_over_mean", "gini", "load_cv2", "importance_cv2", "sufficient_capacity_factor"):
        values = [getattr(one, measure) for one in found]
        assert values == sorted(values), measure
        assert len(set(values)) == len(values), measure
    losses = [one.losses.load_balancing for one in found if one.losses]
    assert losses == sorted(losses)


@pytest.mark.parametrize("router", ["softmax_topk:zero_experts=32", "sigmoid_topk:shared_experts=2"])
def test_losses_are_of_the_experts_though_a_token_may_choose_something_else(router: str) -> None:
    problem = PROBLEM.replace(T=20_000, E=16, K=4, router=router, load="uniform")
    routed = draw_routes(problem, seed=0, device=CPU)
    found = balance_of(problem, routed, routed, seed=0)
    assert found is not None
    assert found.losses is not None
    assert found.losses.load_balancing == pytest.approx(1, abs=0.01)
    assert found.losses.expert_entropy == pytest.approx(np.log(16), abs=0.01)
    assert found.losses.token_entropy < found.losses.expert_entropy
