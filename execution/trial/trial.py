"""The trial: the only path from an implementation to a number. Build, check, measure, check again, record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import torch

from ...kernels.oracle import Result
from ...kernels.problem import Problem
from ...kernels.problem.tensors import TORCH_DTYPES
from ...kernels.tuned.source_hash import source_hash
from ...results.record import SCHEMA, CacheState, Error, Memory, Record, Roofline, Status, Timing
from ...results.record.environment import commit
from ...results.timing.clock import CallBytes, Clock, Sample
from ...results.timing.cpu_clock import fitted, how_cold, next_set
from ...results.timing.cuda_clock import CannotCapture
from ...results.timing.disturbance import Watch, host_clock
from ...results.timing.measure import measure
from ...results.timing.roofline import MachineRates
from ...results.timing.stopping_rule import MIN_SAMPLES
from .accuracy import verdict, worst
from .across_ranks import LockstepClock, gather, of_first_rank, processes_here, rank, ranks, roofline_of_ranks
from .checks.timed_inputs import TimedInputs
from .checks.unannounced_check import UnannouncedCheck
from .checks.watched_sampler import WatchedSampler
from .entry import TrialEntry
from .failure import ending, first_line
from .interleave_lock import interleave
from .local_environment import environment_of
from .memory_check import GIB, Short, afford, least_available
from .observers.launches import LaunchObserver
from .observers.observer import FirstCallObserver, FurtherCallObserver, LayerObserver, ObservedCall, observe_first_call
from .observers.peak_memory import MemoryObserver
from .observers.phases import PhaseObserver
from .observers.sent_bytes import TrafficObserver
from .rates_for_layers import keep_rates
from .reference_check import DeferredResult, ReferenceCheck, ReferenceChecks, Subject, TouchedInputs
from .task import NOBODY, Task
from .work import work_of

T = TypeVar("T")

Begins = Callable[[], None]
"""Called right before an implementation runs."""

Take = Callable[[Begins], Sample | None]

LastSample = Callable[[TrialEntry, ReferenceCheck, bool], None]
"""Takes and grades the last sample of an entry; the flag asks for a close look at the weights."""

Announce = Callable[[int], None]
"""Receives the index of the competitor whose code runs next, so that a hang or a crash can be attributed."""


FIRST_CALL: Final[tuple[FirstCallObserver, ...]] = (LaunchObserver(), MemoryObserver())
CHECKED_LAYER: Final[tuple[LayerObserver, ...]] = (TrafficObserver(),)
FURTHER_CALLS: Final[tuple[FurtherCallObserver, ...]] = (PhaseObserver(),)
"""All observers of a trial, by the moment at which they observe. A new metric of the record joins one of these."""


USUAL_SAMPLES: Final = 20  # of one competitor, to weigh what each of them costs against what is done once
OWN_TOKENS: Final = 2  # the first set's, and what is kept of a result


class TrialRunner:
    """A device ready for trials: its clocks, its measured rates, its fingerprint. One for each worker process.

    ``watch`` is that of the clocks, None for another one; it is told whose time is no disturbance.
    """

    def __init__(self, device: torch.device, clocks: Mapping[CacheState, Clock], watch: Watch | None = None) -> None:
        self._device = device
        self._clocks = clocks
        self._watch = watch or Watch()
        self._machine = MachineRates(device, self._watch)
        self._checks = ReferenceChecks(device)
        self.environment = environment_of(device)
        self.commit = commit()

    def run(self, task: Task, announce: Announce) -> list[Record]:
        """Return a record of every competitor, in order. On several ranks each runs this, with equal records."""
        with interleave(task.interleave_with if rank() == 0 else None, processes_here()) as turns:
            self._watch.count_as_ours(of_first_rank([*turns.partners]))
            return self._run(task, announce, turns.pass_on)

    def _run(self, task: Task, announce: Announce, pass_on: Callable[[], None]) -> list[Record]:
        started = time.perf_counter()
        host_clock.restore()  # whatever a module replaced when it was imported
        entries = [TrialEntry.of(index, one, task.problem, self._device) for index, one in enumerate(task.competitors)]
        roofline = None
        self._checks.keep({entry.subject for entry in _alive(entries)})
        for subject in _subjects(entries):
            self._begin(_alive(entries, subject))
        if _alive(entries):
            self._refuse_too_large(entries, lambda subject: self._called_bytes(task, subject))
            for entry in _alive(entries):
                announce(entry.index)
                self._first_call(entry)
            self._time(task, _alive(entries), announce, pass_on)
            announce(NOBODY)
            roofline = self._roofline_that_holds(task.problem, _alive(entries))
            if roofline is not None:
                keep_rates(self._machine)
        wall_s = (time.perf_counter() - started) / len(entries)
        return [self._record(task, entry, roofline, wall_s) for entry in entries]

    def _begin(self, entries: list[TrialEntry]) -> None:
        """Draw the first check of the one subject of ``entries``, and compute the cost and the work of each."""
        self._refuse_too_large(entries, self._first_bytes)
        if not (alive := _alive(entries)) or (check := self._draw(self._checks.first, alive)) is None:
            return
        for entry in alive:
            entry.cost = entry.kernel.cost(entry.problem, entry.config, check.kept)
            entry.work = work_of(entry.problem, check.routed, check.kept, entry.cost)

    def _first_bytes(self, subject: Subject) -> int:
        """Return the bytes that a subject takes before its implementations are called."""
        return subject.problem.output_bytes + (0 if self._checks.holds(subject) else subject.drawing_bytes)

    def _called_bytes(self, task: Task, subject: Subject) -> int:
        """Return the bytes that a subject takes while they are called: a result, and the sets of inputs.

        The first set has tokens of its own, and the others weights as well; the result of one call is copied.
        Weights of experts without a token are copied too, because all experts lie in one tensor.
        """
        problem = subject.problem
        sets = (self._sets(task, subject) - 1) * problem.input_bytes + OWN_TOKENS * problem.read_bytes(0)
        return problem.output_bytes + sets // problem.ranks

    def _sets(self, task: Task, subject: Subject) -> int:
        """Return how many sets of inputs the calls rotate over, by the bytes a call reads; equal on every rank."""
        return self._clocks[task.cache].copies(self._read_bytes(subject))

    def _read_bytes(self, subject: Subject) -> int:
        """Return the bytes of its inputs that a call reads on each rank."""
        problem, touched = subject.problem, self._checks.first(subject).kept.touched()
        return problem.read_bytes(touched) // problem.ranks

    def _refuse_too_large(self, entries: list[TrialEntry], shared_bytes: Callable[[Subject], int]) -> None:
        """Fail every entry that needs more memory than is available, before anything is allocated."""
        available = least_available(self._device)
        for entry in _alive(entries):
            needed = shared_bytes(entry.subject) + (entry.cost.workspace_bytes if entry.cost else 0)
            if needed > available:
                reason = f"needs about {needed / GIB:.1f} GiB, {available / GIB:.1f} GiB are available"
                entry.failure, entry.needed_bytes = (Status.out_of_memory, reason), needed

    def _draw(self, draw: Callable[[Subject], ReferenceCheck], entries: list[TrialEntry]) -> ReferenceCheck | None:
        """Return a check of the one subject of ``entries``, or None, with ``entries`` failed, when memory is short."""
        subject = entries[0].subject
        what = "drawing the inputs and the reference"
        return self._afford(lambda: draw(subject), what, subject.drawing_bytes, entries)

    def _afford(self, take: Callable[[], T], what: str, needed: int, entries: list[TrialEntry]) -> T | None:
        """Do as `afford`, but when memory is short fail ``entries``, free their inputs and return None."""
        taken = afford(take, what=what, needed=needed, device=self._device)
        if not isinstance(taken, Short):
            return taken
        for entry in entries:
            entry.failure, entry.needed_bytes = (Status.out_of_memory, taken.reason), taken.needed
        for subject in {entry.subject for entry in entries}:
            self._checks.forget(subject)
        return None

    def _first_call(self, entry: TrialEntry) -> None:
        """Build the layer, and grade its first call while observers watch it."""
        if (check := self._draw(self._checks.first, [entry])) is None:
            return

        def observed_call() -> Result:
            entry.layer = entry.kernel.build(entry.problem, entry.config, self._device)
            result, found = observe_first_call(FIRST_CALL, self._observed(entry, check))
            entry.observed |= found
            return result

        self._grade(entry, lambda: check.grade(observed_call))
        entry.look_at_clock()
        if entry.failure is None:
            for observer in CHECKED_LAYER:
                if found := observer.observe(entry.built):
                    entry.observed[observer.field] = found
            entry.check_traffic()

    def _observe_after_timing(self, entry: TrialEntry) -> None:
        """Let observers make calls of their own on the inputs of the first call."""
        for observer in FURTHER_CALLS:
            if observer.applies(entry.built) and (check := self._draw(self._checks.first, [entry])):
                found = observer.observe(self._observed(entry, check), self._watch)
                entry.observed |= {observer.field: found} if found else {}

    def _observed(self, entry: TrialEntry, check: ReferenceCheck) -> ObservedCall:
        return ObservedCall(problem=entry.problem, layer=entry.built, inputs=check.inputs, device=self._device)

    def _grade(self, entry: TrialEntry, grade: Callable[[], dict[str, Error]]) -> None:
        """Grade one call; anything that goes wrong in it becomes the failure of the entry."""
        try:
            found = grade()
        except TouchedInputs as error:
            self._checks.forget(entry.subject)
            entry.failure = (Status.wrong, str(error))
        except DeferredResult as error:
            entry.failure = (Status.wrong, str(error))
        except Exception as error:  # an implementation that raises gets a record that says so
            if self._fail(entry, error):
                raise
        else:
            entry.errors = worst(found, entry.errors) if entry.errors else found
            if reason := verdict(entry.errors, entry.problem.rounding):
                entry.failure = (Status.wrong, reason)

    def _fail(self, entry: TrialEntry, error: Exception) -> bool:
        """Fail an entry whose code raised ``error``; return whether this process cannot go on."""
        status = ending(error)
        entry.failure = (status, first_line(error))
        entry.layer = None  # with what it holds
        # The other ranks wait, or the context is lost.
        return ranks() > 1 or (self._device.type == "cuda" and status is Status.crashed)

    def _time(self, task: Task, entries: list[TrialEntry], announce: Announce, pass_on: Callable[[], None]) -> None:
        """Sample all entries in turn, interleaved with another run where the task names one."""
        clocks = {subject: self._fitted(task, _alive(entries, subject)) for subject in _subjects(entries)}
        rotated = {
            subject: inputs
            for subject in _subjects(entries)
            if (inputs := self._rotated(_alive(entries, subject), clocks[subject]))
        }
        samplers = self._samplers(task, entries, announce, clocks, rotated)

        def announced(entry: TrialEntry, take: Take) -> Sample | None:
            announce(NOBODY)
            pass_on()
            taken = take(lambda: announce(entry.index))
            entry.look_at_clock()
            entry.clocks = clocks[entry.subject].state()
            return taken

        samples = measure(
            {str(entry.index): partial(announced, entry, samplers[entry.index].take) for entry in _alive(entries)},
            time_limit_s=task.budget.seconds,
            enough=task.budget.samples,
        )
        for entry in _alive(entries):
            entry.samples = samples[str(entry.index)]
            entry.check_samples()
        if task.budget.samples is None:  # a search does not use these observations
            for entry in _alive(entries):
                announce(entry.index)
                self._observe_after_timing(entry)

        def last_sample(entry: TrialEntry, check: ReferenceCheck, closely: bool) -> None:
            taken = announced(entry, partial(samplers[entry.index].take_last, check, closely=closely))
            if taken and entry.samples and task.budget.samples is None and not closely:
                entry.samples.keep(taken)

        for subject in _subjects(entries):
            announce(NOBODY)
            self._take_last(_alive(entries, subject), rotated[subject], last_sample)
        for entry in _alive(entries):
            entry.check_samples()

    def _take_last(self, entries: list[TrialEntry], inputs: TimedInputs, take: LastSample) -> None:
        """Take the last sample of ``entries``, which are of one subject, on inputs that none of them has seen.

        If somebody has written to the weights in a way that torch does not count, each is called again and looked at
        more closely: the weights are drawn again, and who writes to them is found out.
        """
        subject = entries[0].subject
        weights = self._checks.first(subject).checksums
        for closely in (False, True):
            if closely or any(gather(len(self._checks.first(subject).changed()))):
                self._restore(entries, subject, inputs)
            if not (alive := _alive(entries)) or (check := self._draw(self._checks.last, alive)) is None:
                return
            for entry in alive:
                try:
                    take(entry, check, closely)
                except Exception as error:
                    if self._fail(entry, error):
                        raise
            if not inputs.unexplained and not any(gather(len(inputs.changed_weights(weights)))):
                return

    def _samplers(
        self,
        task: Task,
        entries: list[TrialEntry],
        announce: Announce,
        clocks: Mapping[Subject, Clock],
        rotated: Mapping[Subject, TimedInputs],
    ) -> dict[int, WatchedSampler]:
        """Return the samplers of the entries by index, prepared; an entry whose preparation fails has failed."""
        samplers: dict[int, WatchedSampler] = {}
        for entry in _alive(entries):
            inputs = rotated[entry.subject]
            check = UnannouncedCheck(
                self._checks.first(entry.subject),
                inputs,
                next_set=partial(next_set, clocks[entry.subject]),
                within=task.budget.samples or MIN_SAMPLES,
            )
            restore = partial(self._restore, entries, entry.subject, inputs)
            samplers[entry.index] = WatchedSampler(entry, inputs, check, grade=self._grade, restore=restore)
            announce(entry.index)
            entry.cold = how_cold(clocks[entry.subject])
            try:
                samplers[entry.index].prepare(LockstepClock(clocks[entry.subject]))
            except Exception as error:
                status = ending(error)
                entry.failure = (status, str(error) if isinstance(error, CannotCapture) else first_line(error))
                if status is Status.crashed or (ranks() > 1 and status is Status.out_of_memory):
                    raise  # the context is lost, or the other ranks wait: this process cannot go on
            entry.look_at_clock()
        return samplers

    def _restore(self, entries: list[TrialEntry], subject: Subject, inputs: TimedInputs) -> None:
        """Write the weights as they were drawn, anew because those at hand were written to, if an entry needs them."""
        self._checks.forget(subject)
        if (others := _alive(entries, subject)) and (check := self._draw(self._checks.first, others)):
            inputs.restore(check.inputs.weights)

    def _fitted(self, task: Task, entries: list[TrialEntry]) -> Clock:
        """Return the clock for the calls of ``entries``, which are of one subject; equal on every rank."""
        clock, problem = self._clocks[task.cache], entries[0].problem
        if self._draw(self._checks.first, entries) is None:
            return clock
        memory = [entry.observed.get("memory") for entry in entries]
        footprint = CallBytes(
            read_bytes=self._read_bytes(entries[0].subject),
            held_bytes=problem.input_bytes // problem.ranks,
            workspace_bytes=max(gather(max((one.peak for one in memory if isinstance(one, Memory)), default=0))),
            available_bytes=least_available(self._device),
            samples=len(entries) * (task.budget.samples or USUAL_SAMPLES),
        )
        return fitted(clock, footprint)

    def _rotated(self, entries: list[TrialEntry], clock: Clock) -> TimedInputs | None:
        """Return the sets of inputs that the calls rotate over; None when memory is short."""
        subject, problem = entries[0].subject, entries[0].problem
        check = self._draw(self._checks.first, entries)
        if check is None:
            return None
        sets = clock.copies(self._read_bytes(subject))
        what, needed = f"rotating over {sets} sets of inputs", (sets - 1) * problem.input_bytes // problem.ranks
        return self._afford(lambda: check.timed(problem, sets), what, needed, entries)

    def _roofline_that_holds(self, problem: Problem, entries: list[TrialEntry]) -> Roofline | None:
        """Return the rates of the machine, and fail every entry that is faster than they allow.

        A time under the lower bound makes the rates doubtful first: they are measured again. A time that is still under
        the bound is implausible. Returns None when memory is too short to measure the rates; the entries have failed
        then, because a time without a bound is no result.
        """
        roofline = self._rates(self._machine.roofline, problem, entries)
        if roofline is None:
            return None
        if beating := [entry for entry in entries if entry.beats(roofline)]:
            roofline = self._rates(self._machine.doubt, problem, beating) or roofline
        for entry in _alive(beating):
            if entry.work and entry.beats(roofline):
                bound_ms = roofline.bound_ns(entry.work) / 1e6
                entry.failure = (Status.implausible, f"faster than the lower bound of {bound_ms:.3g} ms")
        return roofline

    def _rates(
        self, measured: Callable[[torch.dtype], Roofline], problem: Problem, entries: list[TrialEntry]
    ) -> Roofline | None:
        """Return the rates of all ranks together; drawn checks are freed when memory is too short to measure them."""
        needed = self._machine.probe_bytes
        if least_available(self._device) < needed:
            self._checks.keep(())
        dtype = TORCH_DTYPES[problem.dtype]
        rates = self._afford(lambda: measured(dtype), "measuring the machine's rates", needed, entries)
        return rates and roofline_of_ranks(rates)

    def _record(self, task: Task, entry: TrialEntry, roofline: Roofline | None, wall_s: float) -> Record:
        status, reason = entry.failure or (Status.passed, "")
        clock = self._clocks[task.cache]
        observed: dict[str, Any] = entry.observed  # the record checks the type of each field
        timing = None
        if entry.failure is None and entry.samples is not None and entry.samples.stopped is not None:
            timing = Timing(
                clock=clock.name,
                cache=clock.cache,
                cold=entry.cold,
                samples_ns=entry.samples.ns,
                calls=entry.samples.calls,
                throttled=entry.samples.throttled,
                disturbed=entry.samples.disturbed if entry.samples.watched else None,
                stopped=entry.samples.stopped,
            )
        return Record(
            schema_version=SCHEMA,
            point=task.point,
            key=task.problem.key,
            problem=dataclasses.asdict(entry.problem),
            kernel=entry.kernel.name,
            family=entry.kernel.family,
            config=dict(entry.config),
            status=status,
            reason=reason,
            needed_bytes=entry.needed_bytes if status is Status.out_of_memory else None,
            timing=timing,
            errors=entry.errors,
            work=entry.work,
            roofline=roofline,
            **observed,
            clocks=entry.clocks,
            environment=self.environment,
            commit=self.commit,
            source=source_hash(entry.kernel.name),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            wall_s=wall_s,
        )


def _alive(entries: list[TrialEntry], subject: Subject | None = None) -> list[TrialEntry]:
    """Return the entries that have not failed, of one subject or of all."""
    return [entry for entry in entries if entry.failure is None and subject in (None, entry.subject)]


def _subjects(entries: list[TrialEntry]) -> list[Subject]:
    """Return the subjects of the entries that have not failed, in the same order on every rank."""
    return list(dict.fromkeys(entry.subject for entry in _alive(entries)))
