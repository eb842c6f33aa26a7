"""The checks of a trial: an entry whose check goes wrong, or for which memory is too short, has failed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import torch

from ...common.errors import in_one_line
from ...results.record import Error, Status
from ...results.timing.memory import needs
from .across_ranks import ranks
from .checks.accuracy import verdict, worst
from .checks.memory_check import Short, afford, least_available
from .entry import TrialEntry, alive
from .failure import ending
from .reference_check import DeferredResult, ReferenceCheck, ReferenceChecks, Subject, TouchedInputs

T = TypeVar("T")


class TrialChecks:
    """Draws the references of a device's trials and grades calls with them. All ranks must call each method together.

    What goes wrong becomes the failure of the entries that it concerns.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._references = ReferenceChecks(device)

    def keep(self, subjects: Collection[Subject]) -> None:
        """Forget the references of all other subjects."""
        self._references.keep(subjects)

    def forget(self, subject: Subject) -> None:
        """Free the references of a subject. When it is next asked for, the same ones are drawn again."""
        self._references.forget(subject)

    def first_bytes(self, subject: Subject) -> int:
        """Return the bytes that a subject takes before its implementations are called."""
        return subject.problem.output_bytes + (0 if self._references.holds(subject) else subject.drawing_bytes)

    def drawn(self, subject: Subject) -> ReferenceCheck:
        """Return the check before timing of a subject for which there was memory."""
        return self._references.first(subject)

    def first(self, entries: Sequence[TrialEntry]) -> ReferenceCheck | None:
        """Return the check before timing of the one subject of ``entries``, or None, with ``entries`` failed."""
        return self._draw(self._references.first, entries)

    def last(self, entries: Sequence[TrialEntry]) -> ReferenceCheck | None:
        """Return the check after timing of the one subject of ``entries``, or None, with ``entries`` failed."""
        return self._draw(self._references.last, entries)

    def _draw(self, draw: Callable[[Subject], ReferenceCheck], entries: Sequence[TrialEntry]) -> ReferenceCheck | None:
        subject = entries[0].subject
        what = "drawing the inputs and the reference"
        return self.afford(lambda: draw(subject), what, subject.drawing_bytes, entries)

    def afford(self, take: Callable[[], T], what: str, needed: int, entries: Sequence[TrialEntry]) -> T | None:
        """Return what ``take`` does; when memory is short fail ``entries``, free their inputs and return None."""
        taken = afford(take, what=what, needed=needed, device=self._device)
        if not isinstance(taken, Short):
            return taken
        for entry in entries:
            entry.failure, entry.needed_bytes = (Status.out_of_memory, taken.reason), taken.needed
        for subject in {entry.subject for entry in entries}:
            self.forget(subject)
        return None

    def available_bytes(self) -> int:
        """Return the bytes that can still be allocated on the device of the fullest rank."""
        return least_available(self._device)

    def refuse_too_large(self, entries: Sequence[TrialEntry], shared_bytes: Callable[[Subject], int]) -> None:
        """Fail every entry that needs more memory than is available, before anything is allocated."""
        available = self.available_bytes()
        for entry in alive(entries):
            needed = shared_bytes(entry.subject) + (entry.cost.workspace_bytes if entry.cost else 0)
            if needed > available:
                entry.failure, entry.needed_bytes = (Status.out_of_memory, needs(needed, available)), needed

    def grade(self, entry: TrialEntry, grade: Callable[[], dict[str, Error]]) -> None:
        """Grade one call; anything that goes wrong in it becomes the failure of the entry."""
        try:
            found = grade()
        except TouchedInputs as error:
            self.forget(entry.subject)
            entry.failure = (Status.wrong, str(error))
        except DeferredResult as error:
            entry.failure = (Status.wrong, str(error))
        except Exception as error:  # an implementation that raises gets a record that says so
            if self.fail(entry, error):
                raise
        else:
            entry.errors = worst(found, entry.errors) if entry.errors else found
            if reason := verdict(entry.errors, entry.problem.rounding):
                entry.failure = (Status.wrong, reason)

    def fail(self, entry: TrialEntry, error: Exception) -> bool:
        """Fail an entry whose code raised ``error``; return whether this process cannot go on."""
        status = ending(error)
        entry.failure = (status, in_one_line(error))
        entry.layer = None  # with what it holds
        # The other ranks wait, or the context is lost.
        return ranks() > 1 or (self._device.type == "cuda" and status is Status.crashed)
