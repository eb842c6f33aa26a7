"""The trial: only right answers get samples, and every failure is a record that says why."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from small_tasks import PROBLEM, task

from moebench.execution.trial import reference_check, trial
from moebench.execution.trial.checks import memory_check
from moebench.execution.trial.observers.observer import ObservedCall
from moebench.execution.trial.reference_check import ReferenceCheck, Subject
from moebench.execution.trial.task import NOBODY, Budget, Competitor
from moebench.execution.trial.trial import TrialRunner
from moebench.execution.workers.rank_setup import clocks_of
from moebench.kernels.catalog import KERNELS
from moebench.kernels.implementations._triton import runs_on
from moebench.kernels.kernel import Layer
from moebench.kernels.problem import Problem
from moebench.kernels.problem.tensors import Weights, draw_weights
from moebench.kernels.question import LAYER
from moebench.kernels.tuned.source_hash import source_hash
from moebench.results.record import CacheState, Phases, Record, Status
from moebench.results.timing import measure as timing_measure
from moebench.results.timing.clock import ClockName, Ended, Sample, keep_nothing, rotation
from moebench.results.timing.disturbance import Disturbance, Watch
from moebench.results.timing.roofline import MemoryRates
from moebench.results.timing.stopping_rule import MIN_SAMPLES


def run(runner: TrialRunner, *kernels: str, problem: Problem = PROBLEM) -> dict[str, Record]:
    return {record.kernel: record for record in runner.run(task(*kernels, problem=problem), lambda _: None)}


def test_a_correct_kernel_gets_everything_a_record_promises(runner: TrialRunner) -> None:
    record = run(runner, "scatter", problem=PROBLEM.replace(mode="train"))["scatter"]
    assert record.status is Status.passed
    assert record.timing is not None
    assert record.work is not None
    assert record.memory is not None
    assert record.roofline is not None
    assert len(record.timing.samples_ns) >= MIN_SAMPLES
    assert record.timing.cache == "cold"
    assert set(record.errors) == {"y", "dx", "dw_up", "dw_down", "dgates"}
    assert record.work.useful_flops == 3 * 2 * 128 * 32 * 48 * 3
    assert record.work.kept_rows == record.work.routed_rows == 128
    # x and the pre-activations are what scatter keeps, besides gate weights and routes.
    assert record.memory.saved >= 4 * (64 * 32 + 128 * 96)
    assert record.memory.peak > record.memory.saved - 4 * 64 * 32
    assert record.config == KERNELS.load("scatter").space(PROBLEM, torch.device("cpu"))[0]
    assert record.source == source_hash("scatter")
    assert record.wall_s > sum(record.timing.samples_ns) / 1e9


def test_gradients_of_biases_are_checked_too(runner: TrialRunner) -> None:
    records = run(runner, "loop", "padded", problem=PROBLEM.replace(mode="train", bias=True))
    assert records["loop"].status is Status.passed
    assert set(records["loop"].errors) == {"y", "dx", "dw_up", "dw_down", "db_up", "db_down", "dgates"}
    assert records["padded"].status is Status.unsupported
    assert "bias = True" in records["padded"].reason


def test_dropped_rows_are_counted(runner: TrialRunner) -> None:
    record = run(runner, "padded", problem=PROBLEM.replace(capacity_factor=0.5))["padded"]
    assert record.work is not None
    assert record.work.capacity == 16
    assert record.work.routed_rows == 128
    assert record.work.kept_rows <= 64
    assert record.work.drop_rate == pytest.approx(1 - record.work.kept_rows / 128)
    assert record.work.executed_flops == 2 * 64 * 32 * 48 * 3


@pytest.mark.parametrize(
    ("kernel", "mode", "status", "reason"),
    [
        ("OffInOneRow", "forward", Status.wrong, "y is off by"),
        ("NotANumber", "forward", Status.wrong, "y is off by inf"),
        ("WrongGateGradient", "train", Status.wrong, "dgates is off by"),
        ("GoesWrongLater", "forward", Status.wrong, "y is off by"),
        ("WritesToInput", "forward", Status.wrong, "wrote to its inputs: x"),
        ("Remembers", "forward", Status.wrong, "y is off by"),
        ("WrongShape", "forward", Status.crashed, "ValueError: y has shape (32, 64)"),
        ("ReplacesClock", "forward", Status.implausible, "time.perf_counter_ns was replaced by faulty_kernels"),
        ("Raises", "forward", Status.crashed, "RuntimeError: no such luck"),
        ("RunsOutOfMemory", "forward", Status.out_of_memory, "1000 GiB"),
    ],
)
def test_a_fault_is_found_named_and_leaves_the_others_alone(
    runner: TrialRunner, kernel: str, mode: str, status: Status, reason: str
) -> None:
    records = run(runner, "loop", kernel, problem=PROBLEM.replace(mode=mode))
    assert records["loop"].status is Status.passed
    assert records[kernel].status is status
    assert reason in records[kernel].reason
    assert "\n" not in records[kernel].reason
    assert records[kernel].timing is None


def test_a_refusal_is_a_record_with_its_reason(runner: TrialRunner) -> None:
    record = run(runner, "scatter", problem=PROBLEM.replace(capacity_factor=1.0))["scatter"]
    assert record.status is Status.unsupported
    assert "capacity_factor = 1" in record.reason


def test_what_does_not_fit_is_refused_before_it_is_allocated(runner: TrialRunner) -> None:
    problem = Problem(T=1 << 20, D=1 << 15, F=1 << 16, E=256, K=8)
    record = run(runner, "loop", problem=problem)["loop"]
    assert record.status is Status.out_of_memory
    assert "GiB are available" in record.reason


def test_a_workspace_that_does_not_fit_is_refused_too(runner: TrialRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(T=512, D=64, F=64, E=64, K=2, capacity_factor=64.0)
    einsum_needs = 3 * 4 * 512 * 64 * 512
    monkeypatch.setattr(memory_check, "available_bytes", lambda _: einsum_needs)
    records = run(runner, "padded", "gshard_einsum", problem=problem)
    assert records["padded"].status is Status.passed
    assert records["gshard_einsum"].status is Status.out_of_memory


def test_no_tokens_is_a_point_like_any_other(runner: TrialRunner) -> None:
    record = run(runner, "scatter", problem=PROBLEM.replace(T=0))["scatter"]
    assert record.status is Status.passed
    assert record.work is not None
    assert record.work.useful_flops == 0


def test_every_competitor_is_announced_before_its_code_runs(runner: TrialRunner) -> None:
    heard: list[int] = []
    runner.run(task("loop", "scatter"), heard.append)
    assert set(heard) == {NOBODY, 0, 1}


def test_copies_for_a_training_step_are_trainable_and_apart() -> None:
    problem = PROBLEM.replace(mode="train")
    cpu = torch.device("cpu")
    check = ReferenceCheck.draw(Subject(problem, LAYER), draw_weights(problem, seed=0, device=cpu), seed=1, device=cpu)
    first, second = check.timed(problem, 2).sets
    for name, tensor in first.differentiable().items():
        other = second.differentiable()[name]
        assert other.requires_grad
        assert other.data_ptr() != tensor.data_ptr()
        assert name not in ("w_up", "w_down") or torch.equal(other, tensor)


def test_the_reference_of_a_problem_is_taken_once_however_often_it_is_measured(
    runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Problem] = []
    original = ReferenceCheck.draw

    def counted(subject: Subject, weights: Weights, *, seed: int, device: torch.device, width: int) -> ReferenceCheck:
        drawn.append(subject.problem)
        return original(subject, weights, seed=seed, device=device, width=width)

    monkeypatch.setattr(ReferenceCheck, "draw", staticmethod(counted))
    one, other = PROBLEM.replace(seed=1), PROBLEM.replace(seed=2)
    for _ in range(3):
        assert run(runner, "loop", problem=one)["loop"].status is Status.passed
    assert len(drawn) == 2  # before timing and after
    run(runner, "loop", problem=other)
    assert len(drawn) == 4
    run(runner, "loop", problem=one)
    assert len(drawn) == 6  # only the problems at hand are kept


def test_weights_pass_to_the_next_problem_that_has_the_same_unless_somebody_wrote_to_them(
    runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Problem] = []
    original = draw_weights

    def counted(problem: Problem, *, seed: int, device: torch.device) -> Weights:
        drawn.append(problem)
        return original(problem, seed=seed, device=device)

    monkeypatch.setattr(reference_check, "draw_weights", counted)
    problem = PROBLEM.replace(seed=3)
    for tokens in (64, 32, 16):
        assert run(runner, "loop", problem=problem.replace(T=tokens))["loop"].status is Status.passed
    assert len(drawn) == 1
    for weights in runner._checks._references._weights.values():
        weights.w_up_EUD.numpy()[0] *= 2
    assert run(runner, "loop", problem=problem)["loop"].status is Status.passed
    assert len(drawn) == 2
    for mode in ("train", "forward"):
        run(runner, "loop", problem=problem.replace(mode=mode))
        (weights,) = runner._checks._references._weights.values()
        assert weights.w_up_EUD.requires_grad == (mode == "train")
    assert len(drawn) == 2


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_references_of_one_problem_are_asked_different_questions(runner: TrialRunner, mode: str) -> None:
    """Both references compute all N rows with one expert, and each is compared with its own reference result."""
    records = run(runner, "loop", "dense", "matmul", problem=PROBLEM.replace(mode=mode))
    assert records["matmul"].problem == PROBLEM.dense().replace(mode=mode).__dict__
    assert records["matmul"].status is records["loop"].status is Status.passed
    assert records["dense"].status is (Status.passed if mode == "forward" else Status.unsupported)
    assert records["matmul"].work is not None
    assert records["loop"].work is not None
    assert records["matmul"].work.useful_flops == records["loop"].work.useful_flops


@pytest.mark.parametrize("vandal", ["WritesToInput", "WritesLater"])
def test_inputs_that_were_written_to_do_not_come_back(runner: TrialRunner, vandal: str) -> None:
    assert run(runner, "loop", vandal)[vandal].status is Status.wrong
    assert run(runner, "loop", "scatter")["loop"].status is Status.passed
    # In one task too: the next kernel is given the inputs as they were.
    assert run(runner, vandal, "loop")["loop"].status is Status.passed


class StreamingClock:
    """Fake clock of a device on which every call of the problem reads its ideal bytes at a rate."""

    name: ClockName = "cuda_event"
    cache: CacheState = "cold"

    def __init__(self, problem: Problem, bytes_per_s: float) -> None:
        self._ns = 1e9 * problem.ideal_bytes(problem.E) / bytes_per_s

    def copies(self, read_bytes: int) -> int:
        return 1

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        def sample() -> Sample:
            ended(calls[-1]())
            return Sample(ns=self._ns, throttled=False)

        return sample

    def state(self) -> None:
        return None


@pytest.mark.parametrize(("read", "status"), [(3.15e12, Status.passed), (2.9e12, Status.implausible)])
def test_a_kernel_may_read_faster_than_the_machine_copies(
    read: float, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding reads weights and writes next to nothing: 3.1 TB/s is no wonder where reading reaches 3.15."""
    problem = Problem(T=16, D=64, F=128, E=4, K=4)
    runner = TrialRunner(torch.device("cpu"), {"cold": StreamingClock(problem, 3.1e12)})
    monkeypatch.setattr(runner._machine, "_matmul_rate", lambda *_: 1e18)
    monkeypatch.setattr(runner._machine, "_memory_rates", lambda: MemoryRates(copy=3.0e12, read=read))
    assert run(runner, "loop", problem=problem)["loop"].status is status


class DisturbedClock(StreamingClock):
    """Fake clock of a host on which others run during some samples of every ten."""

    def __init__(self, disturbed: int) -> None:
        super().__init__(PROBLEM, 1e6)
        self._turns = itertools.cycle([Disturbance.others] * disturbed + [Disturbance.none] * (10 - disturbed))

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        sample = super().prepare(calls, ended)
        return lambda: dataclasses.replace(sample(), disturbed=next(self._turns))


@pytest.mark.parametrize(
    ("disturbed", "count", "reason"),
    [(0, 0, ""), (2, 4, ""), (10, None, "3 of 3 samples were disturbed: other processes ran on its cores")],
)
def test_a_busy_host_costs_samples_and_if_it_stays_busy_the_number(
    disturbed: int, count: int | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing_measure, "QUIET_PAUSES_S", ())
    record = run(TrialRunner(torch.device("cpu"), {"cold": DisturbedClock(disturbed)}), "loop")["loop"]
    assert record.reason.startswith(reason)
    assert record.status is (Status.disturbed if reason else Status.passed)
    assert (record.timing.disturbed if record.timing else None) == count


def test_the_partner_of_interleaved_runs_is_no_disturbance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partner ran just before each sample, so every short wait for a core would be put down to it."""
    (tmp_path / "1.here").write_text("1 4711")
    watch, told = Watch(), list[int]()
    monkeypatch.setattr(watch, "count_as_ours", told.extend)
    interleaved = dataclasses.replace(task("loop"), interleave_with=tmp_path)
    TrialRunner(torch.device("cpu"), {"cold": DisturbedClock(0)}, watch).run(interleaved, lambda _: None)
    assert sorted(told) == [1, 4711]


class RotatingClock(StreamingClock):
    """Fake hot clock of a device with a small cache; it counts the sets of inputs that the calls go round."""

    cache: CacheState = "hot"
    sets = 0

    def copies(self, read_bytes: int) -> int:
        return rotation(CACHE_BYTES, read_bytes)

    def prepare(self, calls: Sequence[Callable[[], object]], ended: Ended = keep_nothing) -> Callable[[], Sample]:
        self.sets = len(calls)
        return super().prepare(calls, ended)


CACHE_BYTES = 100_000
DECODE = Problem(T=1, D=32, F=64, E=16, K=2)  # 2 of 16 experts of 24 KB are read


def hot(clock: RotatingClock) -> Record:
    runner = TrialRunner(torch.device("cpu"), {"hot": clock})
    (record,) = runner.run(task("loop", problem=DECODE, cache="hot"), lambda _: None)
    return record


def test_a_hot_cache_is_passed_through_by_what_is_read_of_the_inputs() -> None:
    """All experts are twice the cache and more, but the two that a token is for are not: five sets of them are."""
    clock = RotatingClock(DECODE, 1e6)
    assert hot(clock).status is Status.passed
    assert rotation(CACHE_BYTES, DECODE.input_bytes) == 1
    assert clock.sets == rotation(CACHE_BYTES, DECODE.read_bytes(2)) == 5


def test_sets_of_inputs_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer would stay in the cache, and the time would be neither hot nor cold."""
    monkeypatch.setattr(memory_check, "available_bytes", lambda _: 4 * DECODE.input_bytes)
    record = hot(RotatingClock(DECODE, 1e6))
    assert record.status is Status.out_of_memory
    monkeypatch.setattr(memory_check, "available_bytes", lambda _: 6 * DECODE.input_bytes)
    assert hot(RotatingClock(DECODE, 1e6)).status is Status.passed


@pytest.mark.parametrize(
    ("block", "reason"),
    [(128, "blocks of side 128 do not divide F = 48"), ("x", "block = 'x' is of the wrong type: block = 16 is the")],
)
def test_a_configuration_that_cannot_be_built_is_invalid(runner: TrialRunner, block: object, reason: str) -> None:
    asked = task("block_sparse", problem=PROBLEM)
    competitors = (Competitor(kernel="block_sparse", config={"block": block}),)  # type: ignore[dict-item]
    (record,) = runner.run(dataclasses.replace(asked, competitors=competitors), lambda _: None)
    assert record.status is Status.invalid
    assert reason in record.reason


def test_what_a_compiler_refuses_is_uncompilable(runner: TrialRunner) -> None:
    record = run(runner, "loop", "DoesNotCompile")["DoesNotCompile"]
    assert record.status is Status.uncompilable
    assert "CompilationError" in record.reason


def test_eager_calls_are_a_record_of_their_own() -> None:
    """By the host's clock, many calls to a sample, and all of them counted as timed."""
    runner = TrialRunner(torch.device("cpu"), clocks_of(torch.device("cpu"), Watch()))
    (record,) = runner.run(task("loop", cache="eager"), lambda _: None)
    assert record.timing is not None
    assert (record.timing.cache, record.timing.clock) == ("eager", "perf_counter")
    assert record.timing.calls > 1
    assert record.timing.timed_s == pytest.approx(record.timing.calls * sum(record.timing.samples_ns) / 1e9)
    assert record.timing.timed_s < record.wall_s
    assert record.clocks is None  # a CPU has no readings


def test_few_samples_are_enough_where_few_are_asked_for(runner: TrialRunner) -> None:
    asked = dataclasses.replace(task("loop"), budget=Budget(seconds=1.0, samples=3))
    (record,) = runner.run(asked, lambda _: None)
    assert record.timing is not None
    assert len(record.timing.samples_ns) == 3
    assert record.timing.stopped == "enough"


def test_a_record_names_what_a_call_starts(runner: TrialRunner) -> None:
    """Three experts with rows have two products each, and operators around them; a training step starts more."""
    problem = PROBLEM.replace(E=3, K=1)
    forward = run(runner, "loop", problem=problem)["loop"].launches
    train = run(runner, "loop", problem=problem.replace(mode="train"))["loop"].launches
    assert forward is not None
    assert train is not None
    assert forward.kernels == {}
    assert forward.operators["aten.mm"] == 6
    assert train.operators["aten.mm"] == 18
    assert forward.host_waits >= 1  # it asks for the counts of the experts


@pytest.mark.skipif(runs_on(torch.device("cpu")) is not None, reason="needs Triton's interpreter")
def test_a_record_names_the_kernels_of_ours(runner: TrialRunner) -> None:
    problem = Problem(T=16, D=32, F=32, E=2, K=1, mode="train")
    records = run(runner, "triton_scatter", "loop", problem=problem)
    assert records["triton_scatter"].status is Status.passed, records["triton_scatter"].reason
    launches = records["triton_scatter"].launches
    assert launches is not None
    assert launches.kernels["up"] == 1
    assert launches.kernels["weight_gradient"] == 2
    assert launches.host_waits == 0
    assert records["loop"].launches is not None
    assert records["loop"].launches.kernels == {}


class PretendedPhases:
    """Observer of calls on one rank, which really have no phases."""

    field = "phases"

    def applies(self, layer: Layer) -> bool:
        return True

    def observe(self, observed: ObservedCall, watch: Watch) -> Phases:
        assert watch.stop().ns > 0
        assert observed().y_TD.shape == (PROBLEM.T, PROBLEM.D)
        return Phases(compute_ns=[1.0], communication_ns=[2.0], waiting_ns=[3.0], busy_ns=[4.0], exposed_ns=[5.0])


def test_an_observer_fills_its_field_of_the_record(runner: TrialRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new metric is an observer in one of three lists, without another line of the trial."""
    assert run(runner, "loop")["loop"].phases is None
    monkeypatch.setattr(trial, "FURTHER_CALLS", (PretendedPhases(),))
    phases = run(runner, "loop")["loop"].phases
    assert phases is not None
    assert phases.exposed_ns == [5.0]
    searched = dataclasses.replace(task("loop"), budget=Budget(seconds=1.0, samples=3))
    assert runner.run(searched, lambda _: None)[0].phases is None  # a search does not pay for further calls
