"""Lack of memory in the work of the trial itself is recorded for exactly the competitors of that problem."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from copy import copy
from functools import partial

import pytest
import torch
from small_tasks import PROBLEM, task

from moebench.execution.trial import reference_check
from moebench.execution.trial.checks import memory_check
from moebench.execution.trial.checks.memory_check import Short
from moebench.execution.trial.checks.timed_inputs import TimedInputs
from moebench.execution.trial.reference_check import ReferenceCheck, ReferenceChecks, Subject
from moebench.execution.trial.task import Competitor
from moebench.execution.trial.trial import TrialRunner
from moebench.kernels.oracle import reference_bytes
from moebench.kernels.problem import Problem
from moebench.kernels.problem.tensors import Weights
from moebench.kernels.question import LAYER
from moebench.results.record import Record, Roofline, Status
from moebench.results.timing.cpu_clock import CpuClock
from moebench.results.timing.roofline import MachineRates

CPU = torch.device("cpu")
ENDS: list[Exception] = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.00 GiB."),
    MemoryError("Out of memory allocating 512 bytes (CuPy)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
]


def ask(take: Callable[[], object]) -> object:
    return memory_check.afford(take, what="drawing", needed=3 << 30, device=CPU)


def test_what_can_be_afforded_is_passed_on_whatever_it_is() -> None:
    values: list[object] = [None, [], "", 7]
    for value in values:
        assert ask(partial(copy, value)) == value


@pytest.mark.parametrize("error", ENDS, ids=str)
def test_the_end_of_memory_has_the_figures_in_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_check, "available_bytes", lambda _: 2 << 30)

    def take() -> None:
        raise error

    short = ask(take)
    assert isinstance(short, Short)
    assert short.needed == 3 << 30
    assert short.reason.startswith("drawing needs about 3.0 GiB, 2.0 GiB were available: ")
    assert str(error).splitlines()[0] in short.reason
    assert "\n" not in short.reason


def test_any_other_error_is_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        ask(lambda: 1 / 0)


def test_the_end_of_memory_on_another_rank_is_the_end_on_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_check, "gather", lambda mine: [mine, 1])
    short = ask(lambda: "drawn")
    assert isinstance(short, Short)
    assert short.reason.endswith("too little on another rank")


def by_kernel(records: list[Record]) -> dict[str, Record]:
    return {record.kernel: record for record in records}


@pytest.fixture
def fresh() -> TrialRunner:
    """Return a runner that has measured nothing yet."""
    return TrialRunner(CPU, {"cold": CpuClock()})


@pytest.fixture(params=[0, 1], ids=["first check", "second check"])
def ends_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory ends when that check of the problem `dense` solves is drawn, or a part of it, and for no other problem."""
    original, asked = ReferenceCheck.draw, PROBLEM.dense()

    def draw(subject: Subject, weights: Weights, *, seed: int, device: torch.device, width: int) -> ReferenceCheck:
        if subject.problem.replace(T=asked.T) == asked and seed == 2 * asked.seed + 1 + request.param:
            raise torch.OutOfMemoryError("tried to allocate 7.00 GiB")
        return original(subject, weights, seed=seed, device=device, width=width)

    monkeypatch.setattr(ReferenceCheck, "draw", staticmethod(draw))


@pytest.mark.usefixtures("ends_at")
def test_one_of_two_problems_does_not_fit(runner: TrialRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dense` solves another problem than the others; what was drawn for it is given back, and the next task runs."""
    given_back: list[Problem] = []
    original = ReferenceChecks.forget

    def forget(self: ReferenceChecks, subject: Subject) -> None:
        given_back.append(subject.problem)
        original(self, subject)

    monkeypatch.setattr(ReferenceChecks, "forget", forget)
    records = by_kernel(runner.run(task("loop", "dense", "scatter"), lambda _: None))
    assert records["loop"].status is records["scatter"].status is Status.passed
    short = records["dense"]
    assert short.status is Status.out_of_memory
    assert "drawing the inputs and the reference needs about 0.0 GiB" in short.reason
    assert "tried to allocate 7.00 GiB" in short.reason
    dense = PROBLEM.dense()
    assert short.needed_bytes == dense.input_bytes + reference_bytes(dense)
    assert records["loop"].needed_bytes is None
    assert dense in given_back
    again = by_kernel(runner.run(task("loop", x=2.0), lambda _: None))
    assert again["loop"].status is Status.passed


@pytest.mark.parametrize("drawing", [2, 3], ids=["before timing", "after it"])
def test_what_has_to_be_drawn_anew_does_not_fit(
    runner: TrialRunner, monkeypatch: pytest.MonkeyPatch, drawing: int
) -> None:
    """A layer wrote to its inputs, so that the next one is fed others: there the memory is gone."""
    original, drawings = ReferenceCheck.draw, itertools.count(1)

    def draw(subject: Subject, weights: Weights, *, seed: int, device: torch.device, width: int) -> ReferenceCheck:
        if next(drawings) == drawing:
            raise torch.OutOfMemoryError("tried to allocate 7.00 GiB")
        return original(subject, weights, seed=seed, device=device, width=width)

    monkeypatch.setattr(ReferenceCheck, "draw", staticmethod(draw))
    vandal = "WritesToInput" if drawing == 2 else "WritesLater"
    asked = task(vandal, "loop", problem=PROBLEM.replace(seed=21))
    records = by_kernel(runner.run(asked, lambda _: None))
    assert records[vandal].status is Status.wrong
    assert records["loop"].status is Status.out_of_memory
    assert "drawing the inputs" in records["loop"].reason


def test_copies_of_the_inputs_do_not_fit(runner: TrialRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ReferenceCheck.timed

    def timed(self: ReferenceCheck, problem: Problem, count: int, *, scaled: bool) -> TimedInputs:
        if problem == PROBLEM:
            raise torch.OutOfMemoryError("tried to allocate 7.00 GiB")
        return original(self, problem, count, scaled=scaled)

    monkeypatch.setattr(ReferenceCheck, "timed", timed)
    records = by_kernel(runner.run(task("loop", "dense"), lambda _: None))
    assert records["dense"].status is Status.passed
    assert records["loop"].status is Status.out_of_memory
    assert "sets of inputs needs about" in records["loop"].reason


def test_a_warm_up_that_does_not_fit_ends_nothing_else(runner: TrialRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph keeps a pool of its own: the call may fit where its capture does not."""
    clock = runner._clocks["cold"]
    original, turns = clock.prepare, iter([True, False])

    def prepare(calls: list[Callable[[], object]], ended: Callable[[object], None]) -> object:
        if next(turns):
            raise torch.OutOfMemoryError("tried to allocate 7.00 GiB")
        return original(calls, ended)

    monkeypatch.setattr(clock, "prepare", prepare, raising=False)
    records = by_kernel(runner.run(task("loop", "scatter"), lambda _: None))
    assert records["loop"].status is Status.out_of_memory
    assert records["scatter"].status is Status.passed


def test_rates_that_cannot_be_measured_leave_no_number(fresh: TrialRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time without a bound is no result; the task after it, with room, has both."""

    def roofline(*_: object) -> Roofline:
        raise torch.OutOfMemoryError("tried to allocate 2.00 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(MachineRates, "roofline", roofline)
        records = by_kernel(fresh.run(task("loop"), lambda _: None))
    assert records["loop"].status is Status.out_of_memory
    assert "measuring the machine's rates needs about 0.2 GiB" in records["loop"].reason
    assert by_kernel(fresh.run(task("loop", x=2.0), lambda _: None))["loop"].status is Status.passed


def test_checks_make_room_for_measuring_the_rates(fresh: TrialRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    original = MachineRates.roofline

    def roofline(self: MachineRates, dtype: torch.dtype) -> Roofline:
        held.append(fresh._checks._references.holds(Subject(PROBLEM, LAYER)))
        return original(self, dtype)

    monkeypatch.setattr(MachineRates, "roofline", roofline)
    fresh.run(task("loop"), lambda _: None)
    monkeypatch.setattr(memory_check, "available_bytes", lambda _: fresh._machine.probe_bytes - 1)
    records = by_kernel(fresh.run(task("loop"), lambda _: None))
    assert records["loop"].status is Status.passed
    assert held == [True, False]


def test_memory_is_given_back_between_problems(runner: TrialRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[torch.device] = []
    runner.run(task("loop", problem=PROBLEM.replace(seed=11)), lambda _: None)
    monkeypatch.setattr(reference_check, "give_back", given_back.append)
    runner.run(task("loop", problem=PROBLEM.replace(seed=11)), lambda _: None)
    assert given_back == []  # a tuner asks for the same problem again and again
    runner.run(task("loop", problem=PROBLEM.replace(seed=12)), lambda _: None)
    assert given_back == [CPU]


def test_what_an_implementation_cannot_allocate_is_its_own(runner: TrialRunner) -> None:
    asked = task("loop")
    competitors = (*asked.competitors, Competitor(kernel="RunsOutOfMemory"))
    records = by_kernel(runner.run(dataclasses.replace(asked, competitors=competitors), lambda _: None))
    assert records["loop"].status is Status.passed
    assert records["RunsOutOfMemory"].status is Status.out_of_memory
    assert records["RunsOutOfMemory"].needed_bytes is None
