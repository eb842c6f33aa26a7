"""Costs of a trial besides its samples, counted: a share of a time would depend on the machine."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_tasks import PROBLEM, task

from moebench.execution.trial import reference_check
from moebench.execution.trial.checks import timed_inputs
from moebench.execution.trial.reference_check import NEW_SHARE
from moebench.execution.trial.task import Budget
from moebench.execution.trial.trial import TrialRunner
from moebench.kernels.implementations import loop
from moebench.kernels.oracle import Result
from moebench.kernels.problem import Problem
from moebench.kernels.problem.tensors import Inputs
from moebench.kernels.question import LAYER
from moebench.results.record import Status
from moebench.results.timing import cpu_clock
from moebench.results.timing.cold import cold_plan
from moebench.results.timing.cold.workspaces import Workspaces
from moebench.results.timing.cpu_clock import CpuClock
from moebench.results.timing.disturbance import Disturbance, Span, Watch
from moebench.results.timing.roofline import MachineRates, MemoryRates
from moebench.results.timing.stopping_rule import MIN_SAMPLES

NAMES = ("loop", "loop", "loop")
CPU = torch.device("cpu")


class QuietWatch(Watch):
    """Watch of a machine on which nobody else runs: a disturbed sample is taken again."""

    def stop(self) -> Span:
        return Span(super().stop().ns, Disturbance.none)


class AnyMemory:
    """Fake workspaces."""

    def open(self) -> None:
        """Leave the memory as it is."""

    def close(self) -> None:
        """Leave it too."""


def counting(counts: Counter[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        counts[name] += 1
        return function(*args, **kwargs)

    return counted


@pytest.mark.parametrize("rotated", [False, True], ids=["flushed", "rotated"])
def test_a_competitor_costs_one_call_besides_its_samples_and_a_problem_two_references(
    rotated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call alone is not timed: the last one that is graded is a sample, and no call is a warm-up.

    Weights are drawn once, tokens and the reference twice, however many compete; the second time one of 32 of them.
    """
    monkeypatch.setattr(cpu_clock, "last_level_cache_bytes", lambda: 1 << 16)
    monkeypatch.setattr(cold_plan, "LEAST_TOUCHED", 0 if rotated else 1 << 40)
    monkeypatch.setattr(cold_plan, "FRESH_COST", 0)
    monkeypatch.setattr(Workspaces, "of", lambda *_: AnyMemory())  # real ones are for larger calls
    counts: Counter[str] = Counter()
    for owner, name in (
        (reference_check, "draw_weights"),
        (reference_check, "draw_inputs"),
        (reference_check, "checksums"),
        (reference_check, "changed"),
        (timed_inputs, "changed"),
        (timed_inputs.TimedInputs, "pose"),
    ):
        monkeypatch.setattr(owner, name, counting(counts, f"{owner.__name__}.{name}", getattr(owner, name)))
    monkeypatch.setattr(
        MachineRates, "_matmul_rate", counting(counts, "MachineRates._matmul_rate", lambda *_: 1e18)
    )  # nothing is faster, which would be measured again
    monkeypatch.setattr(MachineRates, "_memory_rates", lambda _: MemoryRates(copy=1e18, read=1e18))
    truth, tokens = LAYER.truth, list[int]()

    def noted(problem: Problem, inputs: Inputs) -> Result:
        tokens.append(problem.T)
        return truth(problem, inputs)

    object.__setattr__(LAYER, "truth", noted)
    runner = TrialRunner(CPU, {"cold": CpuClock(watch=QuietWatch())}, QuietWatch())
    asked = dataclasses.replace(task(*NAMES), budget=Budget(seconds=0.0))
    called = Counter[str]()
    build = type(loop.kernel).build

    def counted_build(*args: Any) -> Any:
        return counting(called, "layer", build(*args))

    monkeypatch.setattr(type(loop.kernel), "build", counted_build)
    try:
        records = runner.run(asked, lambda _: None)
    finally:
        object.__setattr__(LAYER, "truth", truth)
    assert [record.status for record in records] == [Status.passed] * len(NAMES)
    assert {record.timing.cold for record in records if record.timing} == {"rotated" if rotated else "flushed"}
    samples = [len(record.timing.samples_ns) for record in records if record.timing]
    assert samples == [MIN_SAMPLES + 1] * len(NAMES)
    assert called["layer"] == len(NAMES) * (1 + MIN_SAMPLES + 1)
    assert tokens == [PROBLEM.T, PROBLEM.T // NEW_SHARE]
    sets = counts.pop("moebench.execution.trial.checks.timed_inputs.changed")
    assert sets > 1 if rotated else sets == 1  # all weights once, after the last calls
    assert counts == {
        "moebench.execution.trial.reference_check.draw_weights": 1,
        "moebench.execution.trial.reference_check.draw_inputs": 2,
        "moebench.execution.trial.reference_check.checksums": 3,
        "moebench.execution.trial.reference_check.changed": len(NAMES) + 1,
        "TimedInputs.pose": 2 * len(NAMES),
        "MachineRates._matmul_rate": 1,
    }
