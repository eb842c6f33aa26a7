"""The declared steps of a rehearsal with cheap commands in the place of theirs, and faults to inject into one."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from moebench.suites.firstlight.forms import REHEARSAL
from moebench.suites.firstlight.journal import Journal, begun
from moebench.suites.firstlight.session import FirstlightSession
from moebench.suites.firstlight.session_step import SessionStep
from moebench.suites.firstlight.session_steps import declared, page

RECORD = '{"status": "passed"}'
DECLARED = [cheap for step in declared(REHEARSAL, tests=Path()) for cheap in [dataclasses.replace(step, obstacle="")]]
NAMES = [step.name for step in DECLARED]


def python(code: str) -> tuple[str, ...]:
    """Return a command that runs a line of Python in an interpreter that starts as fast as possible."""
    return (sys.executable, "-I", "-S", "-c", code)


def writes(step: SessionStep) -> str:
    """Return a line of shell that writes the files of a step."""
    return "; ".join(f"echo '{RECORD}' > {name}" for name in step.files) or "true"


def cheap(step: SessionStep, command: Sequence[str] = (), limit_s: float = 10.0) -> SessionStep:
    """Return a step with another command, by default one that writes the step's files and succeeds."""
    return dataclasses.replace(step, command=tuple(command) or ("/bin/sh", "-c", writes(step)), limit_s=limit_s)


def held(folder: Path, changed: Mapping[str, SessionStep] | None = None, stop: Sequence[str] = ()) -> Journal:
    """Hold a session of all declared steps with cheap commands, except those in ``changed``; stop it at ``stop``."""
    steps = [(changed or {}).get(step.name) or cheap(step) for step in DECLARED]
    journal = begun([*steps, page(folder)], form="rehearsal", moebench="0", device="none", before=None)
    running: list[str] = []
    session = FirstlightSession(folder, journal, lambda entry: running.append(entry.name), lambda: running[-1] in stop)
    session.run(steps, lambda: cheap(page(folder)))
    return journal
