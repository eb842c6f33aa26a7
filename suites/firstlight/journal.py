"""The journal of a session, steps.json: the status, reason, duration and files of every step."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from ...common.errors import UserError
from .session_step import SessionStep

NAME = "steps.json"
LOCK = ".steps.lock"


class JournalError(UserError):
    """A folder or a journal that cannot be used for a session; the message gives the reason and the remedy."""


class StepStatus(StrEnum):
    """Status of a step in the journal."""

    waiting = "waiting"
    running = "running"
    done = "done"
    wrong = "wrong"
    failed = "failed"
    timeout = "timeout"
    out_of_memory = "out_of_memory"
    crashed = "crashed"
    skipped = "skipped"
    interrupted = "interrupted"

    @property
    def settled(self) -> bool:
        """True if running the session again leaves the step alone."""
        return self is StepStatus.done

    @property
    def bad(self) -> bool:
        """True if a step with this status makes the session exit with code 1."""
        return self in (
            StepStatus.wrong,
            StepStatus.failed,
            StepStatus.timeout,
            StepStatus.out_of_memory,
            StepStatus.crashed,
        )


class JournalEntry(BaseModel):
    """Entry of one step: its declaration, and how it ended.

    ``exit_code`` is negative where a signal ended the step, None where nothing ran. ``files`` are the files that exist,
    logs included; ``records`` counts the records in them by status. ``reason`` is one line, empty for `done`.
    """

    model_config = ConfigDict(extra="forbid")

    number: str
    name: str
    worth: str
    command: list[str]
    limit_s: float
    status: StepStatus = StepStatus.waiting
    seconds: float = 0.0
    exit_code: int | None = None
    reason: str = ""
    files: list[str] = []
    records: dict[str, int] = {}
    started: str = ""


RESULTS = {"status", "seconds", "exit_code", "reason", "files", "records", "started"}  # fields that running a step sets


class Journal(BaseModel):
    """All steps of a session in order. ``form`` says whether it is a session on a GPU or a rehearsal."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    form: str
    moebench: str
    device: str
    steps: list[JournalEntry]

    def entry(self, name: str) -> JournalEntry:
        """Return the entry of a step by its name."""
        return next(entry for entry in self.steps if entry.name == name)

    def save(self, folder: Path) -> None:
        """Write the journal to the folder, whole or not at all.

        Raises:
            JournalError: when it cannot be written.
        """
        path = folder / NAME
        beside = path.with_name(f".{NAME}.new")
        try:
            with beside.open("w", encoding="utf-8") as file:
                file.write(self.model_dump_json(indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}; free some space, and run it again to continue") from error


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make a folder and lock it, so that no other session uses it during the block.

    Raises:
        JournalError: when the folder cannot be written, or another session uses it.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise JournalError(f"{folder}: another session is running in it; wait, or give another --output") from None
    except OSError as error:
        raise JournalError(f"{folder}: {error.strerror}; give an --output that can be written") from error
    try:
        yield
    finally:
        lock.release()


def read(folder: Path) -> Journal | None:
    """Return the journal that a folder holds, None where it holds none.

    Raises:
        JournalError: when there is a journal that cannot be read or is not valid.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        return Journal.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        what = str(error).splitlines()[0]
        raise JournalError(f"{path} is not the journal of a session ({what}): give another --output") from error


def begun(steps: Sequence[SessionStep], *, form: str, moebench: str, device: str, before: Journal | None) -> Journal:
    """Return a journal of these steps that keeps everything an earlier journal holds of them.

    Raises:
        JournalError: when the earlier journal has another form (GPU or rehearsal) or another device.
    """
    if before is not None:
        for word, old, new in (("form", before.form, form), ("device", before.device, device)):
            if old != new:
                raise JournalError(
                    f"the folder holds a session of another {word} ({old}, this is {new}): give another --output"
                )
    known = {entry.name: entry for entry in before.steps} if before else {}
    return Journal(
        form=form, moebench=moebench, device=device, steps=[_entry(step, known.get(step.name)) for step in steps]
    )


def _entry(step: SessionStep, before: JournalEntry | None) -> JournalEntry:
    fresh = JournalEntry(
        number=step.number, name=step.name, worth=step.worth, command=list(step.command), limit_s=step.limit_s
    )
    return fresh if before is None else fresh.model_copy(update=before.model_dump(include=RESULTS))
