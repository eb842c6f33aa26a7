"""A session: steps run one after the other, each in a separate process; a step that fails does not stop the next."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from .ending import counted, judged, tally
from .journal import Journal, JournalEntry, StepStatus
from .process import Ended, Stop, Stopped, run
from .session_step import SessionStep

LOGS = "logs"
# Variables that steps do not inherit: Triton's interpreter, say, would replace the compiler in every step.
FORGOTTEN = ("TRITON_INTERPRET",)


class FirstlightSession:
    """A session in one folder; it calls ``tell`` with the entry of each step when the step starts and when it ends."""

    def __init__(self, folder: Path, journal: Journal, tell: Callable[[JournalEntry], None], stop: Stop) -> None:
        self._folder = folder
        self._journal = journal
        self._tell = tell
        self._stop = stop

    def run(self, steps: Sequence[SessionStep], last: Callable[[], SessionStep]) -> None:
        """Run the steps, and then the step that ``last`` makes from the files that they left.

        Raises:
            JournalError: when the journal cannot be written.
            Stopped: when this process is asked to stop; the journal says so.
        """
        (self._folder / LOGS).mkdir(exist_ok=True)
        for step in steps:
            self._carry_out(step)
        self._carry_out(last())

    def _carry_out(self, step: SessionStep) -> None:
        entry = self._journal.entry(step.name)
        entry.command, entry.seconds, entry.exit_code = list(step.command), 0.0, None
        if step.obstacle:
            self._end(step, entry, StepStatus.skipped, step.obstacle)
            return
        entry.status, entry.reason = StepStatus.running, "is running, or the session was killed during it"
        entry.started = datetime.now(UTC).isoformat(timespec="seconds")
        self._journal.save(self._folder)
        self._tell(entry)
        out, err = (self._folder / LOGS / f"{step.name}.{which}" for which in ("out", "err"))
        before = _size(out), _size(err)
        try:
            ended = self._run(step, out, err)
        except OSError as error:
            self._end(step, entry, StepStatus.failed, f"cannot be started: {error}")
            return
        except Stopped:
            self._end(step, entry, StepStatus.interrupted, "the session was asked to stop; running it again continues")
            raise
        entry.seconds, entry.exit_code = round(ended.seconds, 1), ended.exit_code
        said = _since(err, before[1]) or _since(out, before[0])
        self._end(step, entry, *judged(ended, said=said, limit_s=step.limit_s))

    def _run(self, step: SessionStep, out: Path, err: Path) -> Ended:
        return run(
            step.command,
            limit_s=step.limit_s,
            folder=self._folder,
            environment={**_inherited(os.environ), **step.environment},
            out=out,
            err=err,
            stop=self._stop,
        )

    def _end(self, step: SessionStep, entry: JournalEntry, status: StepStatus, reason: str) -> None:
        made = [self._folder / name for name in step.files if (self._folder / name).is_file()]
        logs = sorted(file for file in (self._folder / LOGS).glob(f"{step.name}.*") if file.stat().st_size)
        entry.files = [str(file.relative_to(self._folder)) for file in (*made, *logs)]
        entry.records = tally(file for file in made if file.suffix == ".jsonl")
        if status is StepStatus.wrong and entry.records:
            reason = f"its records are {counted(entry.records)}"
        entry.status, entry.reason = status, reason
        self._journal.save(self._folder)
        self._tell(entry)


def _inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return this process's variables for a step: PYTHONPATH made absolute, and output not buffered."""
    kept = {name: value for name, value in environment.items() if name not in FORGOTTEN}
    if "PYTHONPATH" in kept:
        folders = kept["PYTHONPATH"].split(os.pathsep)
        kept["PYTHONPATH"] = os.pathsep.join(str(Path(folder).absolute()) for folder in folders if folder)
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _since(file: Path, start: int) -> str:
    with file.open("rb") as opened:
        opened.seek(start)
        return opened.read().decode(errors="replace").strip()
