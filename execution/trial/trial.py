"""The trial: the only path from an implementation to a number. Build, check, measure, check again, record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import torch

from ...kernels.catalog import KERNELS
from ...kernels.config import Config
from ...kernels.expert_parallel.communicates import Communicates
from ...kernels.kernel import Cost, Kernel, Layer
from ...kernels.launch_counter import count_launches
from ...kernels.oracle import Result
from ...kernels.problem import Problem
from ...kernels.problem.tensors import TORCH_DTYPES, Inputs
from ...kernels.tuned.source_hash import source_hash
from ...kernels.unimportable import Unimportable
from ...results.record import (
    SCHEMA,
    CacheState,
    Clocks,
    Error,
    Launches,
    Memory,
    Phases,
    Record,
    Roofline,
    Status,
    Timing,
    Traffic,
    Work,
)
from ...results.record.environment import commit
from ...results.timing.clock import Clock, Sample
from ...results.timing.cuda_clock import CannotCapture
from ...results.timing.measure import Samples, measure
from ...results.timing.memory import count_saved, peak
from ...results.timing.operators import count_operators
from ...results.timing.roofline import MachineRates
from .accuracy import verdict, worst
from .across_ranks import LockstepClock, in_step, rank, ranks, roofline_of_ranks
from .failure import ending, first_line
from .interleave_lock import interleave
from .local_environment import environment_of
from .memory_check import GIB, Short, afford, least_available
from .phases import phases
from .reference_check import ReferenceCheck, ReferenceChecks, Subject, TouchedInputs, call
from .sent_bytes import traffic, traffic_of_all
from .task import NOBODY, Competitor, Task
from .work import work_of

T = TypeVar("T")

Announce = Callable[[int], None]
"""Told the index of the competitor whose code runs next, so that a hang or a crash has a name."""


@dataclass
class TrialEntry:
    """One competitor on its way through a trial; ``failure`` ends it."""

    index: int
    kernel: Kernel
    problem: Problem
    config: Config
    failure: tuple[Status, str] | None = None
    needed_bytes: int | None = None
    cost: Cost | None = None
    layer: Layer | None = None
    errors: dict[str, Error] = field(default_factory=dict)
    memory: Memory | None = None
    launches: Launches | None = None
    traffic: Traffic | None = None
    phases: Phases | None = None
    samples: Samples | None = None
    clocks: Clocks | None = None

    @staticmethod
    def of(index: int, competitor: Competitor, problem: Problem, device: torch.device) -> TrialEntry:
        kernel = KERNELS.load(competitor.kernel)
        if refusal := kernel.supports(problem, device):
            status = Status.crashed if isinstance(kernel, Unimportable) else Status.unsupported
            return TrialEntry(index, kernel, problem, {}, failure=(status, refusal))
        solved = kernel.solves(problem)
        config = {**kernel.space(solved, device)[0], **(competitor.config or {})}
        fault = kernel.fault(solved, config, device)
        return TrialEntry(index, kernel, solved, config, failure=(Status.invalid, fault) if fault else None)

    @property
    def subject(self) -> Subject:
        return Subject(self.problem, self.kernel.question)

    @property
    def built(self) -> Layer:
        if self.layer is None:
            raise RuntimeError(f"{self.kernel.name} is asked for before it is built")
        return self.layer


class TrialRunner:
    """A device ready for trials: its clocks, its measured rates, its fingerprint. One for each worker process."""

    def __init__(self, device: torch.device, clocks: Mapping[CacheState, Clock]) -> None:
        self._device = device
        self._clocks = clocks
        self._machine = MachineRates(device)
        self._exams = ReferenceChecks(device)
        self.environment = environment_of(device)
        self.commit = commit()

    def run(self, task: Task, announce: Announce) -> list[Record]:
        """A record of every competitor, in order. On several ranks each runs this, and the records are the same."""
        with interleave(task.interleave_with if rank() == 0 else None) as pass_on:
            return self._run(task, announce, pass_on)

    def _run(self, task: Task, announce: Announce, pass_on: Callable[[], None]) -> list[Record]:
        started = time.perf_counter()
        entries = [TrialEntry.of(index, who, task.problem, self._device) for index, who in enumerate(task.competitors)]
        work: dict[int, Work] = {}
        roofline = None
        self._exams.keep({entry.subject for entry in _alive(entries)})
        for subject in _subjects(entries):
            work |= self._begin(_alive(entries, subject))
        if _alive(entries):
            self._refuse_too_large(entries, lambda subject: self._called_bytes(task, subject))
            for entry in _alive(entries):
                announce(entry.index)
                self._first_call(entry)
            self._time(task, _alive(entries), announce, pass_on)
            if task.budget.samples is None:  # a search has no use for it
                for entry in _alive(entries):
                    announce(entry.index)
                    self._watch(entry)
            announce(NOBODY)
            for subject in _subjects(entries):
                self._draw(self._exams.last, _alive(entries, subject))
            for entry in _alive(entries):
                announce(entry.index)
                self._last_call(entry)
            announce(NOBODY)
            roofline = self._roofline_that_holds(task.problem, _alive(entries), work)
        wall_s = (time.perf_counter() - started) / len(entries)
        return [self._record(task, entry, work.get(entry.index), roofline, wall_s) for entry in entries]

    def _begin(self, entries: list[TrialEntry]) -> dict[int, Work]:
        """Draw the first exam of the one subject of ``entries``, and say what each of them will do."""
        self._refuse_too_large(entries, self._first_bytes)
        if not (alive := _alive(entries)) or (exam := self._draw(self._exams.first, alive)) is None:
            return {}
        work = {}
        for entry in alive:
            entry.cost = entry.kernel.cost(entry.problem, entry.config, exam.kept)
            work[entry.index] = work_of(entry.problem, exam.routed, exam.kept, entry.cost)
        return work

    def _first_bytes(self, subject: Subject) -> int:
        """Bytes that a subject takes until its implementations are called."""
        return subject.problem.output_bytes + (0 if self._exams.holds(subject) else subject.drawing_bytes)

    def _called_bytes(self, task: Task, subject: Subject) -> int:
        """Bytes that it takes when they are: a result, and the sets of inputs beside the first.

        Experts without a token are copied too, for they lie among the others.
        """
        problem = subject.problem
        return problem.output_bytes + (self._sets(task, subject) - 1) * problem.input_bytes // problem.ranks

    def _sets(self, task: Task, subject: Subject) -> int:
        """Sets of inputs that the calls go round, by what a call reads of one; the same number on every rank."""
        problem, touched = subject.problem, self._exams.first(subject).kept.touched()
        return self._clocks[task.cache].copies(problem.read_bytes(touched) // problem.ranks)

    def _refuse_too_large(self, entries: list[TrialEntry], shared_bytes: Callable[[Subject], int]) -> None:
        """Fail whoever needs more memory than there is, before it is allocated."""
        available = least_available(self._device)
        for entry in _alive(entries):
            needed = shared_bytes(entry.subject) + (entry.cost.workspace_bytes if entry.cost else 0)
            if needed > available:
                reason = f"needs about {needed / GIB:.1f} GiB, {available / GIB:.1f} GiB are available"
                entry.failure, entry.needed_bytes = (Status.out_of_memory, reason), needed

    def _draw(self, draw: Callable[[Subject], ReferenceCheck], entries: list[TrialEntry]) -> ReferenceCheck | None:
        """An exam of the one subject of ``entries``, or None: they then know that there is no memory for it."""
        subject = entries[0].subject
        what = "drawing the inputs and the reference"
        return self._afford(lambda: draw(subject), what, subject.drawing_bytes, entries)

    def _afford(self, take: Callable[[], T], what: str, needed: int, entries: list[TrialEntry]) -> T | None:
        """See `afford`; None where memory ends: ``entries`` have failed then, and what they are fed is forgotten."""
        taken = afford(take, what=what, needed=needed, device=self._device)
        if not isinstance(taken, Short):
            return taken
        for entry in entries:
            entry.failure, entry.needed_bytes = (Status.out_of_memory, taken.reason), taken.needed
        for subject in {entry.subject for entry in entries}:
            self._exams.forget(subject)
        return None

    def _first_call(self, entry: TrialEntry) -> None:
        """Build, and grade a call whose memory, launches and traffic are watched."""
        if (exam := self._draw(self._exams.first, [entry])) is None:
            return

        def watched() -> Result:
            entry.layer = layer = entry.kernel.build(entry.problem, entry.config, self._device)
            weights = tuple(exam.inputs.weights.named().values())
            with count_launches() as kernels, count_operators() as operators, count_saved(without=weights) as saved:
                result, peak_bytes = peak(lambda: call(entry.problem, layer, exam.inputs), self._device)
            entry.memory = Memory(peak=peak_bytes, saved=saved.bytes)
            entry.launches = Launches(kernels=kernels, operators=operators.names, host_waits=operators.waits)
            return result

        self._grade(entry, exam, watched)
        layer: object = entry.layer
        if isinstance(layer, Communicates) and ranks() > 1 and entry.failure is None:
            entry.traffic = traffic_of_all(layer.ledger)
            reckoned = traffic(entry.cost.traffic) if entry.cost else None
            if entry.traffic != reckoned:
                entry.failure = (Status.wrong, f"it sent {entry.traffic}, by its routes it should be {reckoned}")

    def _watch(self, entry: TrialEntry) -> None:
        """See where the time of a call on several ranks goes."""
        layer: object = entry.built
        if not isinstance(layer, Communicates) or ranks() == 1:
            return
        if exam := self._draw(self._exams.first, [entry]):
            entry.phases = phases(layer, lambda: call(entry.problem, entry.built, exam.inputs), self._device)

    def _last_call(self, entry: TrialEntry) -> None:
        """Grade a call on inputs that the layer has not seen."""
        if exam := self._draw(self._exams.last, [entry]):
            self._grade(entry, exam, lambda: call(entry.problem, entry.built, exam.inputs))

    def _grade(self, entry: TrialEntry, exam: ReferenceCheck, take: Callable[[], Result]) -> None:
        """Grade one call; whatever goes wrong in it becomes the entry's failure."""
        try:
            found = exam.grade(take)
        except TouchedInputs as error:
            self._exams.forget(entry.subject)
            entry.failure = (Status.wrong, str(error))
        except Exception as error:  # whatever an implementation raises is its record
            status = ending(error)
            entry.failure = (status, first_line(error))
            if ranks() > 1 or (self._device.type == "cuda" and status is Status.crashed):
                raise  # the other ranks wait, or the context is lost: this process cannot go on
            entry.layer = None  # with what it holds
        else:
            entry.errors = worst(found, entry.errors) if entry.errors else found
            if reason := verdict(entry.errors, entry.problem.rounding):
                entry.failure = (Status.wrong, reason)

    def _time(self, task: Task, entries: list[TrialEntry], announce: Announce, pass_on: Callable[[], None]) -> None:
        """Sample all entries in turn, and in turn with whoever else measures here."""
        clock = LockstepClock(self._clocks[task.cache])
        rotated = {subject: self._rotated(task, _alive(entries, subject)) for subject in _subjects(entries)}

        def sampler(entry: TrialEntry) -> Callable[[], Sample]:
            calls = [lambda i=i: call(entry.problem, entry.built, i) for i in rotated[entry.subject]]
            sample = clock.prepare(calls)

            def announced() -> Sample:
                announce(NOBODY)
                pass_on()
                in_step()
                announce(entry.index)
                taken = sample()
                entry.clocks = clock.state()
                return taken

            return announced

        samplers = {}
        for entry in _alive(entries):
            announce(entry.index)
            try:
                samplers[str(entry.index)] = sampler(entry)
            except Exception as error:
                status = ending(error)
                entry.failure = (status, str(error) if isinstance(error, CannotCapture) else first_line(error))
                if status is Status.crashed or (ranks() > 1 and status is Status.out_of_memory):
                    raise  # the context is lost, or the other ranks wait: this process cannot go on
        samples = measure(samplers, time_limit_s=task.budget.seconds, enough=task.budget.samples)
        for subject, inputs in rotated.items():
            if inputs and self._exams.first(subject).changed():  # by whom, the check afterwards tells
                self._exams.forget(subject)
        for entry in _alive(entries):
            entry.samples = samples[str(entry.index)]
            if not entry.samples.stable:
                valid, throttled = len(entry.samples.ns), entry.samples.throttled
                entry.failure = (Status.unstable, f"{throttled} samples were throttled, {valid} were not")

    def _rotated(self, task: Task, entries: list[TrialEntry]) -> list[Inputs]:
        """The sets of inputs that calls go round; none where there is no memory for them."""
        subject, problem = entries[0].subject, entries[0].problem
        exam = self._draw(self._exams.first, entries)
        if exam is None:
            return []
        sets = self._sets(task, subject)
        what, needed = f"going round {sets} sets of inputs", (sets - 1) * problem.input_bytes // problem.ranks
        return self._afford(lambda: exam.copies(problem, sets), what, needed, entries) or []

    def _roofline_that_holds(
        self, problem: Problem, entries: list[TrialEntry], work: dict[int, Work]
    ) -> Roofline | None:
        """The machine's rates; a time under the bound first makes them doubted, then is implausible.

        None where there is no memory to measure them with: a time without a bound is no result.
        """
        roofline = self._rates(self._machine.roofline, problem, entries)
        if roofline is None:
            return None
        if beating := [entry for entry in entries if _beats(entry, work, roofline)]:
            roofline = self._rates(self._machine.doubt, problem, beating) or roofline
        for entry in _alive(beating):
            if _beats(entry, work, roofline):
                bound_ms = roofline.bound_ns(work[entry.index]) / 1e6
                entry.failure = (Status.implausible, f"faster than the lower bound of {bound_ms:.3g} ms")
        return roofline

    def _rates(
        self, measured: Callable[[torch.dtype], Roofline], problem: Problem, entries: list[TrialEntry]
    ) -> Roofline | None:
        """All ranks' rates together; the exams make room for measuring them."""
        needed = self._machine.probe_bytes
        if least_available(self._device) < needed:
            self._exams.keep(())
        dtype = TORCH_DTYPES[problem.dtype]
        rates = self._afford(lambda: measured(dtype), "measuring the machine's rates", needed, entries)
        return rates and roofline_of_ranks(rates)

    def _record(
        self, task: Task, entry: TrialEntry, work: Work | None, roofline: Roofline | None, wall_s: float
    ) -> Record:
        status, reason = entry.failure or (Status.passed, "")
        clock = self._clocks[task.cache]
        timing = None
        if entry.failure is None and entry.samples is not None and entry.samples.stopped is not None:
            timing = Timing(
                clock=clock.name,
                cache=clock.cache,
                samples_ns=entry.samples.ns,
                calls=entry.samples.calls,
                throttled=entry.samples.throttled,
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
            memory=entry.memory,
            launches=entry.launches,
            work=work,
            roofline=roofline,
            sent_bytes=_sent_bytes(entry.traffic),
            traffic=entry.traffic,
            phases=entry.phases,
            clocks=entry.clocks,
            environment=self.environment,
            commit=self.commit,
            source=source_hash(entry.kernel.name),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            wall_s=wall_s,
        )


def _alive(entries: list[TrialEntry], subject: Subject | None = None) -> list[TrialEntry]:
    """Those that have not failed, of one subject or of all."""
    return [entry for entry in entries if entry.failure is None and subject in (None, entry.subject)]


def _subjects(entries: list[TrialEntry]) -> list[Subject]:
    """The subjects of those that have not failed, in the same order on every rank."""
    return list(dict.fromkeys(entry.subject for entry in _alive(entries)))


def _sent_bytes(traffic: Traffic | None) -> list[int]:
    return [] if traffic is None else [sum(one) for one in zip(traffic.node_bytes, traffic.across_bytes, strict=True)]


def _beats(entry: TrialEntry, work: dict[int, Work], roofline: Roofline) -> bool:
    samples = entry.samples
    return samples is not None and samples.median_ns < roofline.bound_ns(work[entry.index])
