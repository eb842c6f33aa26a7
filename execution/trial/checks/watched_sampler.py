"""Sampler of one competitor: new inputs for every sample, and a look at what the sample did."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

from ....kernels.oracle import Result
from ....kernels.problem.tensors import Inputs
from ....results.record import Error, Status
from ....results.timing.clock import Sample
from ..across_ranks import LockstepClock, gather, in_step
from ..entry import TrialEntry
from ..reference_check import ReferenceCheck, TouchedInputs, call
from .poison import poisoned_memory
from .timed_inputs import TimedInputs
from .unannounced_check import UnannouncedCheck

Grade = Callable[[TrialEntry, Callable[[], dict[str, Error]]], None]


class WatchedSampler:
    """Takes the samples of an entry, and fails it where they show that it is not what it seems.

    ``grade`` makes the errors of a call those of the entry, or its failure. ``restore`` writes the weights as they were
    drawn, so that other competitors go on.
    """

    def __init__(
        self,
        entry: TrialEntry,
        inputs: TimedInputs,
        check: UnannouncedCheck,
        *,
        grade: Grade,
        restore: Callable[[], None],
    ) -> None:
        self._entry = entry
        self._inputs = inputs
        self._check = check
        self._grade = grade
        self._restore = restore
        self._sample: Callable[[], Sample] | None = None

    def prepare(self, clock: LockstepClock) -> None:
        """Let the clock warm the calls up."""
        self._sample = clock.prepare(self._inputs.calls(self._called), self._check.keep)
        self._look_after()
        self._inputs.renew()

    def take(self, begins: Callable[[], None]) -> Sample | None:
        """Take a sample, just before which it calls ``begins``; return None once the entry has failed."""
        if self._sample is None or self._entry.failure:
            return None
        self._check.begin()
        taken = self._taken(self._sample, begins)
        self._inputs.renew(only=self._inputs.used if taken.calls == 1 else None)
        return taken

    def take_last(self, check: ReferenceCheck, begins: Callable[[], None], *, closely: bool) -> Sample | None:
        """Take a sample on the inputs of ``check``, which no call has seen, and grade its result.

        Return None where it is no sample like the others. ``closely`` looks for writes to the weights that torch does
        not count, after every call.

        Where tokens have no route the memory that a call allocates is NaN, which takes time: their rows are zero, and
        a call that left them as they were could be right by chance.
        """
        if self._sample is None or self._entry.failure:
            return None
        poison = bool((check.kept.ids_TK < 0).all(1).any())
        self._check.begin_last(check)
        try:
            with poisoned_memory(check.inputs.x_TD) if poison else nullcontext():
                taken = self._taken(self._sample, begins)
        except Exception:
            self._check.cancel()
            raise
        if closely and self._entry.failure is None:
            self._refuse(self._check.changed_weights())
        self._inputs.renew()
        return None if poison or self._entry.failure else taken

    def _taken(self, sample: Callable[[], Sample], begins: Callable[[], None]) -> Sample:
        """Take a sample on all ranks together, and look at what the calls did."""
        in_step()
        begins()
        taken = sample()
        self._look_after()
        return taken

    def _called(self, inputs: Inputs) -> Result:
        return call(self._entry.problem, self._entry.built, inputs)

    def _look_after(self) -> None:
        """Fail the entry if its last calls wrote to their inputs, or were to be graded and are wrong."""
        written = self._inputs.written()
        if any(gather(len(written))):
            self._check.cancel()
        elif self._check.due:
            written = self._graded()
        self._refuse(written)

    def _refuse(self, written: list[str]) -> None:
        """Fail the entry if it wrote to inputs on any rank, and restore these."""
        if any(gather(len(written))):
            self._entry.failure = (Status.wrong, str(TouchedInputs.named(written)))
            self._restore()

    def _graded(self) -> list[str]:
        """Grade the kept result; return the names of weights that the entry wrote to, unseen by torch."""
        entry, before = self._entry, self._entry.errors
        self._grade(entry, self._check.grade)
        if entry.failure is None or entry.layer is None or not any(gather(len(self._check.changed_weights()))):
            return []
        # Somebody wrote to the weights before or during the call: this entry, if it does so again.
        entry.failure, entry.errors = None, before
        self._restore()
        self._grade(entry, lambda: self._check.grade_now(self._called))
        written = self._check.changed_weights()
        self._inputs.unexplained |= not any(gather(len(written)))
        return written
