"""`moebench firstlight`: the first session on a new GPU, step by step, into one folder."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BAD_ANSWER, refuse
from ..screen import say, say_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...suites.firstlight.journal import Journal, JournalEntry
    from ...suites.firstlight.session_step import SessionStep

ALL = "all"
REQUIRED = ("torch", "triton", "numpy", "scipy", "pandas", "pydantic", "jinja2", "filelock", "rich")
TESTS = Path("tests")


def firstlight(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for all files; a session in it is continued.", show_default=False),
    ],
    stage: Annotated[str, typer.Option(help="Stage 1, 2, 3 or all; each takes under nine minutes.")] = ALL,
    step: Annotated[
        list[str] | None,
        typer.Option(help="Only this step, even if it is done; may be given again.", show_default=False),
    ] = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Run every step without a GPU, on small problems, in minutes.")
    ] = False,
    tests: Annotated[
        Path | None,
        typer.Option(
            help="Folder of moebench's tests.", show_default="tests, in a checkout", exists=True, file_okay=False
        ),
    ] = None,
    as_list: Annotated[
        bool, typer.Option("--list", help="Print the steps with time limit and purpose, and stop.")
    ] = False,
) -> None:
    """Check on a GPU whether moebench is right, how fast it is and why, the most valuable steps first (docs/gpu.md).

    Every step is a process with a time limit; a step that fails does not stop the next. OUTPUT/steps.json says how each
    ended. Run the command again with the same --output to run the steps that are not done. Exit code 1: a step failed.
    """
    if missing := [name for name in REQUIRED if not find_spec(name)]:
        refuse(f"{', '.join(missing)} cannot be imported: install it, or bring its wheel along (docs/gpu.md)")
    from ...suites.firstlight.device_check import DeviceError, fit
    from ...suites.firstlight.forms import GPU, REHEARSAL
    from ...suites.firstlight.journal import JournalError, begun, hold, read
    from ...suites.firstlight.process import Stopped, stoppable
    from ...suites.firstlight.session import FirstlightSession
    from ...suites.firstlight.session_steps import STAGES, declared, page

    if stage not in (*STAGES, ALL):
        refuse(f"--stage {stage}: give {', '.join(STAGES)} or {ALL}")
    form = REHEARSAL if rehearse else GPU
    steps = declared(form, tests=tests.absolute() if tests else _tests_of_a_checkout())
    asked = _asked(steps, stage, step or [])
    if as_list:
        say_pairs((f"{one.number}  {one.name:<18} {one.limit_s:>4.0f} s", one.worth) for one in asked)
        return
    try:
        with hold(output):
            before = read(output)
            device = "no GPU" if rehearse else fit()
            journal = begun(
                [*steps, page(output)],
                form=form.name,
                moebench=metadata.version("moebench"),
                device=device,
                before=before,
            )
            todo = asked if step else [one for one in asked if not journal.entry(one.name).status.settled]
            say(f"{device}: {len(todo)} steps, at most {sum(one.limit_s for one in todo) / 60:.0f} minutes")
            with stoppable() as stop:
                FirstlightSession(output, journal, _tell, stop).run(todo, lambda: page(output))
    except (DeviceError, JournalError) as error:
        refuse(str(error))
    except Stopped:
        refuse(f"stopped; finished steps are kept, --output {output} continues the session")
    _conclude(journal, asked, output)


def _tests_of_a_checkout() -> Path | None:
    """Return the tests beside the pyproject.toml of this folder, where there are any."""
    return TESTS.absolute() if (TESTS / "conftest.py").is_file() and Path("pyproject.toml").is_file() else None


def _asked(steps: Sequence[SessionStep], stage: str, names: Sequence[str]) -> list[SessionStep]:
    """Return the steps of a stage, or the named steps."""
    from ...common.names import unknown

    known = [one.name for one in steps]
    for name in names:
        if name not in known:
            refuse(str(unknown("step", name, known)))
    if names:
        return [one for one in steps if one.name in names]
    return [one for one in steps if stage in (ALL, one.stage)]


def _tell(entry: JournalEntry) -> None:
    """Print a line when a step starts, and one when it has ended."""
    from ...suites.firstlight.ending import counted
    from ...suites.firstlight.journal import StepStatus

    if entry.status is StepStatus.running:
        say(f"{entry.number}  {entry.name}: {entry.worth}")
        return
    said = ", ".join(word for word in (entry.reason, counted(entry.records)) if word)
    say(f"     {entry.name}: {entry.status.value} in {entry.seconds:.0f} s" + (f": {said}" if said else ""))


def _conclude(journal: Journal, asked: Sequence[SessionStep], output: Path) -> None:
    """Print how many steps ended in each status and where the journal is; exit with code 1 if any is bad."""
    from collections import Counter

    from ...suites.firstlight.journal import NAME
    from ...suites.firstlight.session_steps import PAGE

    ended = [journal.entry(name) for name in (*(one.name for one in asked), PAGE)]
    counts = Counter(entry.status.value for entry in ended)
    say(f"{', '.join(f'{count} {status}' for status, count in counts.items())}: {output / NAME}")
    if any(entry.status.bad for entry in ended):
        raise typer.Exit(BAD_ANSWER)
