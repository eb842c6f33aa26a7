"""The trial: the only path from an implementation to a number. Build, check, measure, check again, record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import torch

from ...kernels.oracle import Result
from ...kernels.problem import Problem
from ...kernels.problem.block import DrawsRoutes
from ...kernels.problem.draw_routes import check_seed
from ...kernels.problem.tensors import TORCH_DTYPES
from ...kernels.tuned.source_hash import source_hash
from ...results.record import SCHEMA, CacheState, Record, Roofline, Status, Timing
from ...results.record.environment import commit
from ...results.timing.clock import Clock
from ...results.timing.device_functions import synchronize
from ...results.timing.disturbance import Watch, host_clock
from ...results.timing.energy.energy_counter import EnergyCounter
from ...results.timing.roofline import MachineRates
from .across_ranks import gather, of_first_rank, processes_here, rank, roofline_of_ranks
from .balance import balance_of
from .entry import TrialEntry, alive, subjects
from .interleave_lock import interleave
from .local_environment import environment_of
from .observers.call_energy import LEAST_BUDGET_S, joules_of_call, with_energy
from .observers.invariance import InvarianceObserver
from .observers.launches import LaunchObserver
from .observers.observer import (
    AskedObserver,
    FirstCallObserver,
    FurtherCallObserver,
    LayerObserver,
    ObservedCall,
    observe_first_call,
)
from .observers.peak_memory import MemoryObserver
from .observers.phases import PhaseObserver
from .observers.sent_bytes import TrafficObserver
from .observers.stage_times import StageObserver
from .rates_for_layers import keep_rates
from .reference_check import ReferenceCheck
from .task import NOBODY, Announce, Task
from .timed_rounds import TimedRounds, called_bytes
from .trial_checks import TrialChecks
from .work import work_of

FIRST_CALL: Final[tuple[FirstCallObserver, ...]] = (LaunchObserver(), MemoryObserver())
CHECKED_LAYER: Final[tuple[LayerObserver, ...]] = (TrafficObserver(),)
ASKED_FOR: Final[tuple[AskedObserver, ...]] = (InvarianceObserver(),)
FURTHER_CALLS: Final[tuple[FurtherCallObserver, ...]] = (PhaseObserver(),)
ASKED_FURTHER_CALLS: Final[tuple[FurtherCallObserver, ...]] = (StageObserver(),)
"""All observers of a trial, by the moment at which they observe. A new metric of the record joins one of these."""


def _no_wait() -> None:
    """Return at once: a call on a CPU has ended when it returns."""


class TrialRunner:
    """A device ready for trials: its clocks, its measured rates, its fingerprint. One for each worker process.

    ``watch`` is that of the clocks, None for another one; it is told whose time is no disturbance. ``energy`` counts
    the joules of the device, None where nothing does.
    """

    def __init__(
        self,
        device: torch.device,
        clocks: Mapping[CacheState, Clock],
        watch: Watch | None = None,
        energy: EnergyCounter | None = None,
    ) -> None:
        self._device = device
        self._energy = energy
        self._clocks = clocks
        self._watch = watch or Watch()
        self._machine = MachineRates(device, self._watch)
        self._checks = TrialChecks(device)
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
        self._checks.keep({entry.subject for entry in alive(entries)})
        for subject in subjects(entries):
            self._begin(task, alive(entries, subject))
        if alive(entries):
            self._checks.refuse_too_large(entries, partial(called_bytes, self._clocks[task.cache], self._checks))
            for entry in alive(entries):
                announce(entry.index)
                self._first_call(entry)
                self._observe_asked(task, entry)
            self._time(task, alive(entries), announce, pass_on)
            announce(NOBODY)
            roofline = self._roofline_that_holds(task.problem, alive(entries))
            if roofline is not None:
                keep_rates(self._machine)
        wall_s = (time.perf_counter() - started) / len(entries)
        return [self._record(task, entry, roofline, wall_s) for entry in entries]

    def _begin(self, task: Task, entries: list[TrialEntry]) -> None:
        """Draw the first check of the one subject of ``entries``, and compute the cost and the work of each."""
        self._checks.refuse_too_large(entries, self._checks.first_bytes)
        if not (left := alive(entries)) or (check := self._checks.first(left)) is None:
            return
        problem = left[0].problem
        balance = None
        if task.point.stage is None and not isinstance(problem.around, DrawsRoutes):  # a search does not use it
            balance = balance_of(problem, check.routed, check.kept, seed=check_seed(problem))
        for entry in left:
            entry.balance = balance
            entry.cost = entry.kernel.cost(entry.problem, entry.config, check.kept)
            entry.work = work_of(entry.problem, check.routed, check.kept, entry.cost, entry.kernel.question)

    def _first_call(self, entry: TrialEntry) -> None:
        """Build the layer, and grade its first call while observers watch it."""
        if (check := self._checks.first([entry])) is None:
            return

        def observed_call() -> Result:
            entry.layer = entry.kernel.build(entry.problem, entry.config, self._device)
            result, found = observe_first_call(FIRST_CALL, self._observed(entry, check))
            entry.observed |= found
            return result

        self._checks.grade(entry, lambda: check.grade(observed_call))
        entry.look_at_clock()
        if entry.failure is None:
            for observer in CHECKED_LAYER:
                if found := observer.observe(entry.built):
                    entry.observed[observer.field] = found
            entry.check_traffic()

    def _observe_asked(self, task: Task, entry: TrialEntry) -> None:
        """Let observers that the task asks for make calls of their own, before anything is timed."""
        for observer in (one for one in ASKED_FOR if one.field in task.asks):
            if entry.failure is None and (check := self._checks.first([entry])):
                try:
                    found = observer.observe(self._observed(entry, check))
                except Exception as error:  # an implementation may fail on other batches only
                    if self._checks.fail(entry, error):
                        raise
                else:
                    entry.observed |= {observer.field: found} if found else {}
        entry.check_guarantees()

    def _observe_after_timing(self, task: Task, entry: TrialEntry) -> None:
        """Let observers make calls of their own on the inputs of the first call."""
        searching = task.budget.samples is not None or task.point.stage is not None
        observers = [observer for observer in ASKED_FURTHER_CALLS if observer.field in task.asks]
        if task.budget.samples is None:  # a search does not use the others
            observers = [*FURTHER_CALLS, *observers]
        for observer in observers:
            if observer.applies(entry.built) and (check := self._checks.first([entry])):
                found = observer.observe(self._observed(entry, check), self._watch)
                entry.observed |= {observer.field: found} if found else {}

        if not searching and task.budget.seconds >= LEAST_BUDGET_S and task.cache != "hot":
            self._count_energy(entry)

    def _count_energy(self, entry: TrialEntry) -> None:
        """Count the joules of calls on the inputs of the first one; a hot clock has counted those of its own."""
        counted = all(gather(self._energy is not None))
        if self._energy is not None and counted and (check := self._checks.first([entry])):
            wait = synchronize if self._device.type == "cuda" else _no_wait
            call = self._observed(entry, check)
            entry.energy_j = joules_of_call(call, self._energy, wait=wait, watch=self._watch)

    def _observed(self, entry: TrialEntry, check: ReferenceCheck) -> ObservedCall:
        return ObservedCall(
            kernel=entry.kernel,
            config=entry.config,
            problem=entry.problem,
            layer=entry.built,
            inputs=check.inputs,
            device=self._device,
        )

    def _time(self, task: Task, entries: list[TrialEntry], announce: Announce, pass_on: Callable[[], None]) -> None:
        """Sample all entries in turn, and grade the last call of each; ``pass_on`` gives way to another run."""
        rounds = TimedRounds(task, entries, self._clocks[task.cache], self._checks, announce, pass_on)
        rounds.sample()
        for entry in alive(entries):
            announce(entry.index)
            self._observe_after_timing(task, entry)
        rounds.take_last()

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
        for entry in alive(beating):
            if entry.work and entry.beats(roofline):
                bound_ms = roofline.bound_ns(entry.work) / 1e6
                entry.failure = (Status.implausible, f"faster than the lower bound of {bound_ms:.3g} ms")
        return roofline

    def _rates(
        self, measured: Callable[[torch.dtype], Roofline], problem: Problem, entries: list[TrialEntry]
    ) -> Roofline | None:
        """Return the rates of all ranks together; drawn checks are freed when memory is too short to measure them."""
        needed = self._machine.probe_bytes
        if self._checks.available_bytes() < needed:
            self._checks.keep(())
        dtype = TORCH_DTYPES[problem.dtype]
        rates = self._checks.afford(lambda: measured(dtype), "measuring the machine's rates", needed, entries)
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
            balance=entry.balance,
            roofline=roofline,
            **observed,
            clocks=with_energy(entry.clocks, entry.energy_j),
            environment=self.environment,
            commit=self.commit,
            source=source_hash(entry.kernel.name, entry.problem.block),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            wall_s=wall_s,
        )
