"""The timed calls of a trial: rounds of samples of all competitors, and a last one on inputs that none has seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from ...common.errors import in_one_line
from ...results.record import Memory, Status
from ...results.timing.clock import CallBytes, Clock, Sample
from ...results.timing.cpu_clock import fitted, how_cold, next_set
from ...results.timing.cuda_clock import CannotCapture
from ...results.timing.measure import measure
from ...results.timing.stopping_rule import MIN_SAMPLES
from .across_ranks import LockstepClock, gather, ranks
from .checks.timed_inputs import TimedInputs
from .checks.unannounced_check import UnannouncedCheck
from .checks.watched_sampler import WatchedSampler
from .entry import TrialEntry, alive, subjects
from .failure import ending
from .reference_check import ReferenceCheck, Subject
from .task import NOBODY, Announce, Task
from .trial_checks import TrialChecks

LEAST_SAMPLES: Final = MIN_SAMPLES + 1  # of one competitor, the last included; what is done once pays off in these
OWN_TOKENS: Final = 2  # the first set's, and what is kept of a result

Begins = Callable[[], None]
"""Called right before an implementation runs."""

Take = Callable[[Begins], Sample | None]


@dataclass(frozen=True, kw_only=True)
class _Rotation:
    """The sets of inputs that the calls of one subject rotate over, and the clock that was fitted to these calls."""

    clock: Clock
    inputs: TimedInputs


class TimedRounds:
    """Samples the ``entries`` of a task in turn; ``clock`` is fitted to the calls of each of their subjects.

    ``pass_on`` lets another run that is interleaved with this one take its turn. An entry for which memory is too
    short, or whose calls cannot be prepared, has failed.
    """

    def __init__(
        self,
        task: Task,
        entries: Sequence[TrialEntry],
        clock: Clock,
        checks: TrialChecks,
        announce: Announce,
        pass_on: Callable[[], None],
    ) -> None:
        self._task = task
        self._entries = entries
        self._checks = checks
        self._announce = announce
        self._pass_on = pass_on
        clocks = {subject: self._fitted(clock, subject) for subject in subjects(entries)}
        self._rotations = {
            subject: rotation for subject in subjects(entries) if (rotation := self._rotation(clocks[subject], subject))
        }
        self._samplers: dict[int, WatchedSampler] = {}
        for entry in alive(entries):
            self._prepare(entry)

    def sample(self) -> None:
        """Take samples in rounds until every entry has enough."""
        taken = measure(
            {
                str(entry.index): partial(self._taken, entry, self._samplers[entry.index].take)
                for entry in alive(self._entries)
            },
            time_limit_s=self._task.budget.seconds,
            enough=self._task.budget.samples,
        )
        for entry in alive(self._entries):
            entry.samples = taken[str(entry.index)]
            entry.check_samples()

    def take_last(self) -> None:
        """Take and grade the last sample of every entry, on inputs that none of them has seen."""
        for subject in subjects(self._entries):
            self._announce(NOBODY)
            self._take_last_of(subject, self._rotations[subject].inputs)
        for entry in alive(self._entries):
            entry.check_samples()

    def _fitted(self, clock: Clock, subject: Subject) -> Clock:
        """Return the clock for the calls on a subject; equal on every rank."""
        entries, problem = alive(self._entries, subject), subject.problem
        if self._checks.first(entries) is None:
            return clock
        memory = [entry.observed.get("memory") for entry in entries]
        footprint = CallBytes(
            read_bytes=_read_bytes(self._checks, subject),
            held_bytes=problem.input_bytes // problem.ranks,
            workspace_bytes=max(gather(max((one.peak for one in memory if isinstance(one, Memory)), default=0))),
            available_bytes=self._checks.available_bytes(),
            samples=len(entries) * (self._task.budget.samples or LEAST_SAMPLES),
        )
        return fitted(clock, footprint)

    def _rotation(self, clock: Clock, subject: Subject) -> _Rotation | None:
        """Return the sets of inputs for the calls on a subject; None, with its entries failed, when memory is short."""
        entries, problem = alive(self._entries, subject), subject.problem
        check = self._checks.first(entries)
        if check is None:
            return None
        sets = clock.copies(_read_bytes(self._checks, subject))
        what, needed = f"rotating over {sets} sets of inputs", (sets - 1) * problem.input_bytes // problem.ranks
        scaled = subject.question.scales_tokens
        inputs = self._checks.afford(lambda: check.timed(problem, sets, scaled=scaled), what, needed, entries)
        return None if inputs is None else _Rotation(clock=clock, inputs=inputs)

    def _prepare(self, entry: TrialEntry) -> None:
        """Make the sampler of an entry; one whose preparation fails has failed."""
        rotation = self._rotations[entry.subject]
        check = UnannouncedCheck(
            self._checks.drawn(entry.subject),
            rotation.inputs,
            next_set=partial(next_set, rotation.clock),
            within=self._task.budget.samples or MIN_SAMPLES,
        )
        restore = partial(self._restore, entry.subject)
        sampler = WatchedSampler(entry, rotation.inputs, check, grade=self._checks.grade, restore=restore)
        self._samplers[entry.index] = sampler
        self._announce(entry.index)
        entry.cold = how_cold(rotation.clock)
        try:
            sampler.prepare(LockstepClock(rotation.clock))
        except Exception as error:
            status = ending(error)
            entry.failure = (status, str(error) if isinstance(error, CannotCapture) else in_one_line(error))
            if status is Status.crashed or (ranks() > 1 and status is Status.out_of_memory):
                raise  # the context is lost, or the other ranks wait: this process cannot go on
        entry.look_at_clock()

    def _taken(self, entry: TrialEntry, take: Take) -> Sample | None:
        """Take a sample of an entry after letting the other run pass."""
        self._announce(NOBODY)
        self._pass_on()
        taken = take(lambda: self._announce(entry.index))
        entry.look_at_clock()
        entry.clocks = self._rotations[entry.subject].clock.state()
        return taken

    def _take_last_of(self, subject: Subject, inputs: TimedInputs) -> None:
        """Take the last samples of the entries of one subject.

        If somebody has written to the weights in a way that torch does not count, each is called again and looked at
        more closely: the weights are drawn again, and who writes to them is found out.
        """
        weights = self._checks.drawn(subject).checksums
        for closely in (False, True):
            if closely or any(gather(len(self._checks.drawn(subject).changed()))):
                self._restore(subject)
            entries = alive(self._entries, subject)
            if not entries or (check := self._checks.last(entries)) is None:
                return
            for entry in entries:
                try:
                    self._last(entry, check, closely=closely)
                except Exception as error:
                    if self._checks.fail(entry, error):
                        raise
            if not inputs.unexplained and not any(gather(len(inputs.changed_weights(weights)))):
                return

    def _last(self, entry: TrialEntry, check: ReferenceCheck, *, closely: bool) -> None:
        """Take and grade the last sample of an entry, and keep it unless a look at the weights has slowed it."""
        taken = self._taken(entry, partial(self._samplers[entry.index].take_last, check, closely=closely))
        if taken and entry.samples and self._task.budget.samples is None and not closely:
            entry.samples.keep(taken)

    def _restore(self, subject: Subject) -> None:
        """Write the weights as they were drawn, anew because those at hand were written to, if an entry needs them."""
        self._checks.forget(subject)
        if (others := alive(self._entries, subject)) and (check := self._checks.first(others)):
            self._rotations[subject].inputs.restore(check.inputs.weights)


def called_bytes(clock: Clock, checks: TrialChecks, subject: Subject) -> int:
    """Return the bytes that a subject takes while its implementations are called: a result, and the sets of inputs.

    The first set has tokens of its own, and the others weights as well; the result of one call is copied. Weights of
    experts without a token are copied too, because all experts lie in one tensor. Equal on every rank.
    """
    problem = subject.problem
    sets = clock.copies(_read_bytes(checks, subject)) - 1
    rotated = sets * problem.input_bytes + OWN_TOKENS * problem.read_bytes(0)
    return problem.output_bytes + rotated // problem.ranks


def _read_bytes(checks: TrialChecks, subject: Subject) -> int:
    """Return the bytes of its inputs that a call reads on each rank."""
    problem = subject.problem
    return problem.read_bytes(checks.drawn(subject).kept.touched()) // problem.ranks
