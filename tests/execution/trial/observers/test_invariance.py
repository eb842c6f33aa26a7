"""Invariance: what depends on the batch is found and named, and a guarantee that is broken makes a record wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import varying_kernels
from small_tasks import PROBLEM, task
from torch import Tensor

from moebench.execution.trial.checks.other_batches import OtherBatch
from moebench.execution.trial.observers import invariance
from moebench.execution.trial.trial import TrialRunner
from moebench.kernels.implementations import router_alone
from moebench.kernels.oracle import Result
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import Routing, widened
from moebench.results.record import Invariance, Record, Sameness, Status

DROPPING = PROBLEM.replace(capacity_factor=0.5)
ALL = {"repeat", "batch", "alone", "order"}
NTH = f"token {varying_kernels.NTH}"


def observed(runner: TrialRunner, kernel: str, problem: Problem = PROBLEM) -> Record:
    (record,) = runner.run(dataclasses.replace(task(kernel, problem=problem), asks=("invariance",)), lambda _: None)
    return record


def seen(record: Record) -> Invariance:
    assert record.invariance is not None, record.reason
    return record.invariance


def test_nothing_is_compared_unless_it_is_asked_for(runner: TrialRunner) -> None:
    (record,) = runner.run(task("loop"), lambda _: None)
    assert record.status is Status.passed
    assert record.invariance is None


@pytest.mark.parametrize("kernel", ["ClaimsTruly", "RowByRow"])
def test_invariant_kernels_are_the_same_by_construction_or_as_observed(runner: TrialRunner, kernel: str) -> None:
    record = observed(runner, kernel)
    guaranteed = kernel == "ClaimsTruly"
    assert record.status is Status.passed
    assert seen(record).properties == dict.fromkeys(ALL, Sameness(guaranteed=guaranteed))
    assert seen(record).reason == ("each token is computed by itself" if guaranteed else "")


def test_a_token_that_differs_in_smaller_batches_is_named(runner: TrialRunner) -> None:
    found = seen(observed(runner, "DependsOnSize")).properties
    assert {name for name, one in found.items() if not one.same} == {"batch", "order"}
    batch = found["batch"]
    assert (batch.differs, batch.token, batch.where) == (NTH, varying_kernels.NTH, "a batch of 32")
    assert batch.tokens == 1
    assert 0 < batch.distance < 1e-6
    assert batch.beyond_rounding is None


def test_a_row_that_differs_by_its_place_is_found_where_tokens_move(runner: TrialRunner) -> None:
    found = seen(observed(runner, "DependsOnPlace")).properties
    assert {name for name, one in found.items() if not one.same} == {"batch", "order"}
    assert found["order"].differs == NTH


def test_a_token_that_differs_from_run_to_run_is_named(runner: TrialRunner) -> None:
    found = seen(observed(runner, "DependsOnRun"))
    assert found.repeat is not None
    assert (found.repeat.differs, found.repeat.where) == (NTH, "the same call again")


def test_a_broken_guarantee_is_wrong(runner: TrialRunner) -> None:
    record = observed(runner, "LiesOnSize")
    assert record.status is Status.wrong
    assert record.reason == f"its bits are guaranteed (batch), but {NTH} differs in a batch of 32"
    assert seen(record).batch == Sameness(
        guaranteed=True,
        differs=NTH,
        token=varying_kernels.NTH,
        where="a batch of 32",
        tokens=1,
        distance=seen(record).properties["batch"].distance,
    )


def test_a_kernel_that_fails_on_another_batch_has_crashed(runner: TrialRunner) -> None:
    record = observed(runner, "RaisesOnOneToken")
    assert (record.status, record.reason) == (Status.crashed, "RuntimeError: one is too few")


@pytest.mark.parametrize("drop", ["first_come", "gate_weight"])
def test_a_capacity_makes_a_token_depend_on_the_others(runner: TrialRunner, drop: str) -> None:
    found = seen(observed(runner, "padded", DROPPING.replace(drop=drop))).properties
    assert found["repeat"].same
    for name in ("batch", "alone"):
        assert found[name].beyond_rounding is not None
        assert found[name].distance > 0.1
    # Who is served first depends on the order, unless the gate weights decide.
    assert (found["order"].beyond_rounding is None) == (drop == "gate_weight")


def test_gradients_of_a_training_step_are_compared_with_those_of_the_same_step(runner: TrialRunner) -> None:
    found = seen(observed(runner, "RowByRow", PROBLEM.replace(T=8, mode="train")))
    assert found.repeat is not None
    assert found.repeat.same
    assert found.batch is not None


@pytest.mark.parametrize(("T", "compared"), [(0, set()), (1, {"repeat"}), (2, {"repeat", "alone", "order"})])
def test_what_cannot_be_compared_is_absent(runner: TrialRunner, T: int, compared: set[str]) -> None:
    record = observed(runner, "RowByRow", PROBLEM.replace(T=T))
    assert record.status is Status.passed
    assert set(record.invariance.properties if record.invariance else {}) == compared


@pytest.mark.parametrize(
    "router", ["softmax_topk", "softmax_topk_renorm", "sigmoid_topk:groups=2,top_groups=1", "switch"]
)
def test_tokens_that_choose_for_themselves_choose_the_same_in_every_batch(runner: TrialRunner, router: str) -> None:
    record = observed(runner, "router_alone", PROBLEM.replace(E=8, K=1, router=router))
    assert record.status is Status.passed, record.reason
    assert seen(record).properties == dict.fromkeys(ALL, Sameness(guaranteed=False))


def test_a_router_whose_choices_go_by_the_batch_is_found(runner: TrialRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token 3 has another gate in the whole batch, and in it more choices, so that results differ in width too."""
    plainly = router_alone._routed

    def changed(problem: Problem, x_TD: Tensor, route: Any) -> Routing:
        routing = plainly(problem, x_TD, route)
        if problem.T != PROBLEM.T:
            return routing
        wider = widened(routing, routing.chosen + 1)
        wider.ids_TK[3, -1] = int(set(range(problem.E)).difference(wider.ids_TK[3].tolist()).pop())
        wider.gates_TK[3, -1] = 0.5
        return wider

    monkeypatch.setattr(router_alone, "_routed", changed)
    found = seen(observed(runner, "router_alone")).properties
    assert found["batch"].differs == "token 3"
    assert found["batch"].beyond_rounding == 3
    assert found["repeat"].same


def test_of_several_ranks_the_lowest_token_is_named_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that another rank has found token 40 in the first comparison, 3 tokens in all, and a distance of 1."""
    of_other = [0.0, 40.0, 0.0, 3.0, 1.0, 44.0]
    monkeypatch.setattr(invariance, "gather_floats", lambda mine: [of_other, list(mine)])
    whole = Result(y_TD=torch.ones(4, 2), gradients={})
    findings = invariance._Findings(PROBLEM, whole, with_gradients=False)
    findings.add(OtherBatch(2, torch.tensor([0, 1]), "first"), Result(y_TD=torch.ones(2, 2), gradients={}))
    findings.add(
        OtherBatch(2, torch.tensor([3, 2]), "second"), Result(y_TD=torch.tensor([[1.0, 1], [1, 3]]), gradients={})
    )
    found = findings.sameness(guaranteed=False)
    assert (found.differs, found.token, found.where) == ("token 2", 2, "second")
    assert (found.tokens, found.distance, found.beyond_rounding) == (4, 1.0, 2)
    unchanged = invariance._Findings(PROBLEM, whole, with_gradients=False)
    unchanged.add(OtherBatch(1, torch.tensor([0]), "only"), Result(y_TD=torch.ones(1, 2), gradients={}))
    found = unchanged.sameness(guaranteed=False)
    assert (found.differs, found.where, found.tokens, found.beyond_rounding) == ("token 40", "only", 3, 44)
