"""Kernels that cheat: each is found and named, and the honest ones beside it and after it keep their times."""

from __future__ import annotations

import dataclasses
import itertools
import secrets
from functools import partial

import cheating_kernels
import pytest
import torch
from small_tasks import PROBLEM, task

from moebench.execution.trial.checks import unannounced_check, watched_sampler
from moebench.execution.trial.checks.accuracy import verdict
from moebench.execution.trial.reference_check import ReferenceCheck, ReferenceChecks, Subject, call
from moebench.execution.trial.task import Budget
from moebench.execution.trial.trial import TrialRunner
from moebench.execution.workers.rank_setup import clocks_of
from moebench.kernels.kernel import Layer
from moebench.kernels.oracle import Result
from moebench.kernels.problem import Problem
from moebench.kernels.problem.tensors import Inputs, draw_weights
from moebench.kernels.question import LAYER
from moebench.results.record import CacheState, Error, Record, Status
from moebench.results.timing import device_functions
from moebench.results.timing.disturbance import Watch
from moebench.results.timing.roofline import MemoryRates

CPU = torch.device("cpu")
TRAIN = PROBLEM.replace(mode="train")
DROPPING = PROBLEM.replace(K=1, capacity_factor=0.5)

FOUND = [
    ("KeepsByPointer", PROBLEM, "y is off by"),
    ("KeepsByPointer", Problem(T=1, D=16, F=16, E=1, K=1), "y is off by"),
    ("KeepsAndIdles", PROBLEM, "y is off by"),
    ("KeepsRoutes", PROBLEM, "y is off by"),
    ("KeepsWeights", PROBLEM, "y is off by"),
    ("SwapsRows", PROBLEM, "wrote to its inputs: x"),
    ("WritesIds", PROBLEM, "wrote to its inputs: ids"),
    ("WritesIdsLater", PROBLEM, "wrote to its inputs: ids"),
    ("WritesWeightsLater", PROBLEM, "wrote to its inputs: w_down"),
    ("WritesWeightsUnseen", PROBLEM, "wrote to its inputs: w_down"),
    ("WritesWeightsLast", PROBLEM, "wrote to its inputs: w_down"),
    ("WritesDy", TRAIN, "wrote to its inputs: dy"),
    ("ComputesWhenRead", PROBLEM, "not a plain tensor"),
    ("ComputesBehind", PROBLEM, "y is off by"),
    ("ClearsNothing", DROPPING, "y is off by inf"),
    ("ClearsNothing", DROPPING.replace(drop="gate_weight"), "y is off by inf"),
]


@pytest.fixture(scope="module")
def small() -> TrialRunner:
    """Return a runner whose rates are so high that no time is implausible, and whose caches are small."""
    runner = TrialRunner(CPU, clocks_of(CPU, Watch()))
    for name, rate in (("_matmul_rate", 1e18), ("_memory_rates", MemoryRates(copy=1e18, read=1e18))):
        setattr(runner._machine, name, lambda *_, rate=rate: rate)
    return runner


def measured(
    runner: TrialRunner, *kernels: str, problem: Problem, samples: int = 4, cache: CacheState = "cold"
) -> list[Record]:
    asked = task(*kernels, problem=problem, cache=cache)
    return runner.run(dataclasses.replace(asked, budget=Budget(seconds=0.1, samples=samples)), lambda _: None)


@pytest.mark.parametrize(("cheat", "problem", "reason"), FOUND)
def test_a_cheat_is_wrong_and_the_honest_keep_their_times(
    small: TrialRunner, cheat: str, problem: Problem, reason: str
) -> None:
    before, found, after = measured(small, "Honest", cheat, "Honest", problem=problem)
    assert (found.status, reason in found.reason) == (Status.wrong, True), found.reason
    assert [one.status for one in (before, after)] == [Status.passed] * 2, [before.reason, after.reason]
    (following,) = measured(small, "Honest", problem=problem)  # the kept inputs are as they were drawn
    assert following.status is Status.passed, following.reason


def test_a_gradient_that_an_expert_with_one_token_loses_is_seen() -> None:
    """Beside those of thousands of tokens it is a thousandth of the norm, and its rows are under the typical row."""
    problem = Problem(T=8192, D=64, F=32, E=8, K=2, load="zipf:6", dtype="bfloat16", mode="train")
    check = ReferenceCheck.draw(Subject(problem, LAYER), draw_weights(problem, seed=0, device=CPU), seed=1, device=CPU)
    assert sorted(check.kept.counts_E().tolist())[:3] == [1, 1, 15]
    found = {}
    for name in ("Honest", "LosesSmallGradients"):
        layer = cheating_kernels.CHEATS[name].build(problem, {}, CPU)
        found[name] = check.grade(partial(call, problem, layer, check.inputs))
    lost = {name: error for name, error in found["LosesSmallGradients"].items() if name in ("dw_up", "dw_down")}
    assert verdict({name: found["Honest"][name] for name in lost}, problem.dtype) is None
    assert "worst expert" in str(verdict(lost, problem.dtype))
    blind = {name: error.model_copy(update={"worst_expert": 0.0}) for name, error in lost.items()}
    assert verdict(blind, problem.dtype) is None


@pytest.mark.parametrize("cheat", ["KeepsByPointer", "KeepsRoutes", "KeepsWeights"])
def test_what_the_first_timed_call_keeps_is_found_though_it_is_graded_itself(
    small: TrialRunner, cheat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cheat is right in the call that is graded by chance; the last call finds other values in the same memory."""
    monkeypatch.setattr(secrets, "randbelow", lambda _: 0)
    honest, found = measured(small, "Honest", cheat, problem=PROBLEM)
    assert (honest.status, found.status) == (Status.passed, Status.wrong)
    assert "y is off by" in found.reason


def test_a_row_that_later_calls_leave_out_shows_in_the_last_one(
    small: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call that is graded by chance is an early one that clears; the memory of the last one holds NaN."""
    monkeypatch.setattr(secrets, "randbelow", lambda _: 0)
    honest, found = measured(small, "Honest", "ClearsNothingLater", problem=DROPPING)
    assert (honest.status, found.status) == (Status.passed, Status.wrong)
    assert "y is off by inf" in found.reason


def test_the_last_call_has_routes_that_no_call_has_had(small: TrialRunner) -> None:
    """More rows for one expert than in all calls before: room for those is not enough."""
    problem = next(
        one for one in (PROBLEM.replace(seed=seed) for seed in range(9)) if fullest(one, "last") > fullest(one, "first")
    )
    honest, found = measured(small, "Honest", "FitsFirstCounts", problem=problem)
    assert (honest.status, found.status) == (Status.passed, Status.wrong)
    assert "y is off by" in found.reason


def fullest(problem: Problem, check: str) -> int:
    """Return the rows of the fullest expert in the first or the last check of a trial."""
    drawn: ReferenceCheck = getattr(ReferenceChecks(CPU), check)(Subject(problem, LAYER))
    return int(drawn.kept.counts_E().max())


def test_the_results_of_graded_calls_do_not_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ones are right for the next competitor, who might get this memory and write nothing."""
    weights = draw_weights(TRAIN, seed=0, device=CPU)
    check = ReferenceCheck.draw(Subject(TRAIN, LAYER), weights, seed=1, device=CPU)
    inputs = check.timed(TRAIN, 1)
    unannounced = unannounced_check.UnannouncedCheck(check, inputs, next_set=lambda: None, within=1)
    graded: list[Result] = []
    compare = ReferenceCheck.compare

    def noted(check: ReferenceCheck, result: Result) -> dict[str, Error]:
        graded.append(result)
        return compare(check, result)

    monkeypatch.setattr(ReferenceCheck, "compare", noted)
    layer = cheating_kernels.CHEATS["Honest"].build(TRAIN, {}, CPU)
    assert verdict(check.grade(partial(call, TRAIN, layer, check.inputs)), TRAIN.dtype) is None
    unannounced.begin()
    result = call(TRAIN, layer, inputs.sets[0])
    unannounced.keep(result)
    assert verdict(unannounced.grade(), TRAIN.dtype) is None
    for one in (result, *graded):
        assert {name: bool(of.isnan().all()) for name, of in tensors(one).items()} == dict.fromkeys(tensors(one), True)


def test_an_input_that_is_returned_is_not_forgotten() -> None:
    check = ReferenceCheck.draw(Subject(PROBLEM, LAYER), draw_weights(PROBLEM, seed=0, device=CPU), seed=1, device=CPU)
    found = check.grade(lambda: Result(y_TD=check.inputs.x_TD.view(PROBLEM.T, -1), gradients={}))
    assert "y is off by" in str(verdict(found, PROBLEM.dtype))
    assert not check.changed()


def tensors(result: Result) -> dict[str, torch.Tensor]:
    return {"y": result.y_TD, **result.gradients}


@pytest.mark.parametrize(
    ("cheat", "name"), [("ReplacesSynchronize", "torch.cuda.synchronize"), ("ReplacesEvents", "Event.elapsed_time")]
)
def test_the_clock_of_a_gpu_is_torchs_own_whatever_an_implementation_replaces(
    small: TrialRunner, cheat: str, name: str
) -> None:
    own = torch.cuda.synchronize, torch.cuda.Event.elapsed_time
    honest, found, after = measured(small, "Honest", cheat, "Honest", problem=PROBLEM)
    assert found.status is Status.implausible
    assert f"{name} was replaced by cheating_kernels._nothing" in found.reason
    assert honest.status is after.status is Status.passed
    assert (
        (torch.cuda.synchronize, torch.cuda.Event.elapsed_time)
        == own
        == (
            device_functions.synchronize,
            device_functions._elapsed_time,
        )
    )


@pytest.mark.parametrize("cheat", ["KeepsByPointer", "KeepsRoutes", "KeepsWeights", "WritesIdsLater"])
def test_eager_calls_are_watched_too(small: TrialRunner, cheat: str) -> None:
    honest, found = measured(small, "Honest", cheat, problem=PROBLEM, samples=1, cache="eager")
    assert honest.status is Status.passed, honest.reason
    assert found.status is Status.wrong


def test_every_call_has_new_values_in_the_same_memory_and_the_same_work(
    small: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the last call, which has other routes. Beside a kernel that writes to the ids too, which is left out."""
    seen: list[tuple[int, tuple[float, ...], list[int]]] = []

    def watched(problem: Problem, layer: Layer, inputs: Inputs) -> Result:
        counts = sorted(inputs.routing.counts_E().tolist())
        seen.append((inputs.x_TD.data_ptr(), tuple(inputs.x_TD.flatten()[:2].tolist()), counts))
        return call(problem, layer, inputs)

    monkeypatch.setattr(watched_sampler, "call", watched)
    measured(small, "Honest", problem=PROBLEM, samples=10)
    for (memory, values, _), (next_memory, next_values, _) in itertools.pairwise(seen):
        assert memory != next_memory or values != next_values
    assert len({values for _, values, _ in seen}) == len(seen) > 10
    work = seen.pop(0)[2]
    assert [counts for _, _, counts in seen[:-1]] == [work] * (len(seen) - 1)
    assert seen[-1][2] != work
    seen.clear()
    measured(small, "Honest", "WritesIdsLater", problem=PROBLEM, samples=10)
    assert [counts for _, _, counts in seen].count(work) == len(seen) - 1
