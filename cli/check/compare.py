"""`moebench compare`: whether records are slower than earlier ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import refuse, user_errors
from ..screen import complain
from .verdicts import AsJson, Floor, Strict, conclude

if TYPE_CHECKING:
    from ...results.record import Record


def compare(
    old: Annotated[Path, typer.Argument(help="File of records to compare with.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="File of records to judge.", show_default=False)],
    floor: Floor = 0.02,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Compare two files of records, point by point.

    Exit code 1 means that something is slower or broken, 2 that nothing could be judged. Both files stay as they are.
    """
    from ...results.regression.settling import settling
    from ...results.regression.verdicts import Outcome
    from ...results.regression.verdicts import compare as compared

    before, after = _records(old), _records(new)
    verdicts = compared(before, after, floor=floor)
    conclude(verdicts, str(settling(before, after, verdicts) or ""), strict=strict, as_json=as_json)
    if all(verdict.status is Outcome.unclear for verdict in verdicts if verdict.status.compared):
        most = max(min(verdict.processes) for verdict in verdicts)
        few = f"{most} processes a side are too few" if most > 1 else "one run is one process"
        refuse(f"nothing could be judged: {few}, and processes of the same code differ")


def _records(path: Path) -> list[Record]:
    """Return the records of a file, and print one line about the lines that are not records."""
    from ...reports.numbers import plain
    from ...results.record.store import load

    with user_errors():
        loaded = load(path)
    others = len(loaded.problems) - 1
    problem = "".join(map(plain, loaded.problems[:1])) + (f" (and {others} more)" if others > 0 else "")
    if not loaded.records:
        refuse(problem or f"{path} is empty; `moebench run` makes records")
    if problem:
        complain(problem)
    return loaded.records
