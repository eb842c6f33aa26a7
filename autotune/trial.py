"""The trial: the only path from an implementation to a number. Build, check, measure, check again, record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import torch

from ..kernels.catalog import KERNELS
from ..kernels.device import device_name, driver
from ..kernels.kernel import Communicates, Config, Cost, Kernel, Layer
from ..kernels.oracle import Result
from ..kernels.problem import Problem
from ..kernels.source import source_hash
from ..kernels.tensors import TORCH_DTYPES
from ..results.clock import Clock, Sample
from ..results.cuda import CannotCapture
from ..results.environment import commit, fingerprint
from ..results.machine import Machine
from ..results.measure import Samples, measure
from ..results.memory import available_bytes, count_saved, peak
from ..results.record import (
    SCHEMA,
    CacheState,
    Clocks,
    Error,
    Memory,
    Phases,
    Record,
    Roofline,
    Status,
    Timing,
    Traffic,
    Work,
)
from .check import verdict, worst
from .exam import Exam, Exams, Subject, TouchedInputs, call
from .failure import ending, first_line
from .phases import phases
from .ranks import LockstepClock, gather, in_step, rank, ranks, roofline_of_ranks
from .task import NOBODY, Competitor, Task
from .traffic import traffic, traffic_of_all
from .turns import turns
from .work import work_of

GIB = 1 << 30

Announce = Callable[[int], None]
"""Told the index of the competitor whose code runs next, so that a hang or a crash has a name."""


@dataclass
class Entry:
    """One competitor on its way through a trial; ``failure`` ends it."""

    index: int
    kernel: Kernel
    problem: Problem
    config: Config
    failure: tuple[Status, str] | None = None
    cost: Cost | None = None
    layer: Layer | None = None
    errors: dict[str, Error] = field(default_factory=dict)
    memory: Memory | None = None
    traffic: Traffic | None = None
    phases: Phases | None = None
    samples: Samples | None = None
    clocks: Clocks | None = None

    @staticmethod
    def of(index: int, competitor: Competitor, problem: Problem, device: torch.device) -> Entry:
        kernel = KERNELS.load(competitor.kernel)
        if refusal := kernel.supports(problem, device):
            return Entry(index, kernel, problem, {}, failure=(Status.unsupported, refusal))
        solved = kernel.solves(problem)
        config = {**kernel.space(solved, device)[0], **(competitor.config or {})}
        fault = kernel.fault(solved, config, device)
        return Entry(index, kernel, solved, config, failure=(Status.invalid, fault) if fault else None)

    @property
    def subject(self) -> Subject:
        return Subject(self.problem, self.kernel.question)

    @property
    def built(self) -> Layer:
        if self.layer is None:
            raise RuntimeError(f"{self.kernel.name} is asked for before it is built")
        return self.layer


class Bench:
    """A device ready for trials: its clocks, its measured rates, its fingerprint. One for each worker process."""

    def __init__(self, device: torch.device, clocks: Mapping[CacheState, Clock]) -> None:
        self._device = device
        self._clocks = clocks
        self._machine = Machine(device)
        self._exams = Exams(device)
        self.environment = fingerprint(
            "cuda" if device.type == "cuda" else "cpu", device=device_name(device), driver=driver(device)
        )
        self.commit = commit()

    def run(self, task: Task, announce: Announce) -> list[Record]:
        """A record of every competitor, in order. On several ranks each runs this, and the records are the same."""
        with turns(task.turns if rank() == 0 else None) as pass_on:
            return self._run(task, announce, pass_on)

    def _run(self, task: Task, announce: Announce, pass_on: Callable[[], None]) -> list[Record]:
        started = time.perf_counter()
        entries = [Entry.of(index, who, task.problem, self._device) for index, who in enumerate(task.competitors)]
        work: dict[int, Work] = {}
        roofline = None
        self._exams.keep({entry.subject for entry in _alive(entries)})
        self._refuse_too_large(entries, self._first_bytes)
        if _alive(entries):
            for entry in _alive(entries):
                exam = self._exams.first(entry.subject)
                entry.cost = entry.kernel.cost(entry.problem, entry.config, exam.kept)
                work[entry.index] = work_of(entry.problem, exam.routed, exam.kept, entry.cost)
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
            for entry in _alive(entries):
                self._exams.last(entry.subject)
            for entry in _alive(entries):
                announce(entry.index)
                self._last_call(entry)
            announce(NOBODY)
            roofline = self._roofline_that_holds(task.problem, _alive(entries), work)
        wall_s = (time.perf_counter() - started) / len(entries)
        return [self._record(task, entry, work.get(entry.index), roofline, wall_s) for entry in entries]

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

    def _refuse_too_large(self, entries: list[Entry], shared_bytes: Callable[[Subject], int]) -> None:
        """Fail whoever needs more memory than there is, before it is allocated."""
        available = min(gather(available_bytes(self._device)))
        for entry in _alive(entries):
            needed = shared_bytes(entry.subject) + (entry.cost.workspace_bytes if entry.cost else 0)
            if needed > available:
                reason = f"needs about {needed / GIB:.1f} GiB, {available / GIB:.1f} GiB are available"
                entry.failure = (Status.out_of_memory, reason)

    def _first_call(self, entry: Entry) -> None:
        """Build, and grade a call whose memory and traffic are watched."""
        exam = self._exams.first(entry.subject)

        def watched() -> Result:
            entry.layer = layer = entry.kernel.build(entry.problem, entry.config, self._device)
            weights = exam.inputs.weights
            with count_saved(without=tuple(weights.named().values())) as saved:
                result, peak_bytes = peak(lambda: call(entry.problem, layer, exam.inputs), self._device)
            entry.memory = Memory(peak=peak_bytes, saved=saved.bytes)
            return result

        self._grade(entry, exam, watched)
        layer: object = entry.layer
        if isinstance(layer, Communicates) and ranks() > 1 and entry.failure is None:
            entry.traffic = traffic_of_all(layer.ledger)
            reckoned = traffic(entry.cost.traffic) if entry.cost else None
            if entry.traffic != reckoned:
                entry.failure = (Status.wrong, f"it sent {entry.traffic}, by its routes it should be {reckoned}")

    def _watch(self, entry: Entry) -> None:
        """See where the time of a call on several ranks goes."""
        layer: object = entry.built
        if isinstance(layer, Communicates) and ranks() > 1:
            inputs = self._exams.first(entry.subject).inputs
            entry.phases = phases(layer, lambda: call(entry.problem, entry.built, inputs), self._device)

    def _last_call(self, entry: Entry) -> None:
        """Grade a call on inputs that the layer has not seen."""
        exam = self._exams.last(entry.subject)
        self._grade(entry, exam, lambda: call(entry.problem, entry.built, exam.inputs))

    def _grade(self, entry: Entry, exam: Exam, take: Callable[[], Result]) -> None:
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
        else:
            entry.errors = worst(found, entry.errors) if entry.errors else found
            if reason := verdict(entry.errors, entry.problem.rounding):
                entry.failure = (Status.wrong, reason)

    def _time(self, task: Task, entries: list[Entry], announce: Announce, pass_on: Callable[[], None]) -> None:
        """Sample all entries in turn, and in turn with whoever else measures here."""
        clock = LockstepClock(self._clocks[task.cache])
        exams = {subject: self._exams.first(subject) for subject in {entry.subject for entry in entries}}
        inputs = {subject: exam.copies(subject.problem, self._sets(task, subject)) for subject, exam in exams.items()}

        def sampler(entry: Entry) -> Callable[[], Sample]:
            calls = [lambda i=i: call(entry.problem, entry.built, i) for i in inputs[entry.subject]]
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
        for entry in entries:
            announce(entry.index)
            try:
                samplers[str(entry.index)] = sampler(entry)
            except CannotCapture as error:
                entry.failure = (Status.unsupported, str(error))
        samples = measure(samplers, time_limit_s=task.budget.seconds, enough=task.budget.samples)
        for subject, exam in exams.items():
            if exam.changed():  # by whom, the check afterwards tells
                self._exams.forget(subject)
        for entry in _alive(entries):
            entry.samples = samples[str(entry.index)]
            if not entry.samples.stable:
                valid, throttled = len(entry.samples.ns), entry.samples.throttled
                entry.failure = (Status.unstable, f"{throttled} samples were throttled, {valid} were not")

    def _roofline_that_holds(self, problem: Problem, entries: list[Entry], work: dict[int, Work]) -> Roofline:
        """The machine's rates; a time under the bound first makes them doubted, then is implausible."""
        dtype = TORCH_DTYPES[problem.dtype]
        roofline = roofline_of_ranks(self._machine.roofline(dtype))
        if any(_beats(entry, work, roofline) for entry in entries):
            roofline = roofline_of_ranks(self._machine.doubt(dtype))
        for entry in entries:
            if _beats(entry, work, roofline):
                bound_ms = roofline.bound_ns(work[entry.index]) / 1e6
                entry.failure = (Status.implausible, f"faster than the lower bound of {bound_ms:.3g} ms")
        return roofline

    def _record(self, task: Task, entry: Entry, work: Work | None, roofline: Roofline | None, wall_s: float) -> Record:
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
            timing=timing,
            errors=entry.errors,
            memory=entry.memory,
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


def _alive(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.failure is None]


def _sent_bytes(traffic: Traffic | None) -> list[int]:
    return [] if traffic is None else [sum(one) for one in zip(traffic.node_bytes, traffic.across_bytes, strict=True)]


def _beats(entry: Entry, work: dict[int, Work], roofline: Roofline) -> bool:
    samples = entry.samples
    return samples is not None and samples.median_ns < roofline.bound_ns(work[entry.index])
