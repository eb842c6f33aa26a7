"""`moebench history`: the time of every point at each commit, and the commits between which it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..errors import refuse, user_errors
from ..problem_options import separated
from ..screen import complain, say, say_json, width
from .verdicts import AsJson

ARCHIVE = Path("results/regression/history")


def history(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Files that `moebench run` or `moebench gate` wrote.", show_default="what was kept"),
    ] = None,
    kernel: Annotated[
        list[str] | None,
        typer.Option(
            "--kernel", "-k", metavar="NAME,…", callback=separated, help="Only this kernel; may be given again."
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Add the records of the files to those kept of their machine.")
    ] = False,
    archive: Annotated[Path, typer.Option(help="Folder of what is kept, a file for each machine.")] = ARCHIVE,
    as_json: AsJson = False,
) -> None:
    """Show the medians of every point over the commits, on each machine, and between which commits they changed."""
    if keep and not files:
        refuse("give the files to keep: those that `moebench run` or `moebench gate` wrote")
    from ...reports.numbers import plain
    from ...reports.tables.history_table import history_lines
    from ...results.record.store import load_all
    from ...results.regression.archive import kept
    from ...results.regression.history import history as series_of

    with user_errors():
        if files and keep:
            _keep(files, archive)
        loaded = load_all(files) if files and not keep else kept(archive)
    _tell(loaded.problems)
    if not files and not loaded.records:
        refuse(f"nothing is kept in {archive}: give files, with --keep to have them here from now on")
    there = {record.kernel for record in loaded.records}
    if absent := [name for name in kernel or () if name not in there]:
        refuse(f"no record is of {' or '.join(absent)}: there are {', '.join(map(plain, sorted(there)))}")
    found = series_of([record for record in loaded.records if not kernel or record.kernel in kernel])
    if not found:
        refuse("no record passed at a known commit: `moebench gate` and `moebench run` in a clean checkout make some")
    if as_json:
        say_json([asdict(one) | {"environment": one.environment.model_dump()} for one in found])
        return
    say("\n".join(history_lines(found, width())))


def _keep(files: Sequence[Path], archive: Path) -> None:
    from ...reports.numbers import counted
    from ...results.record.store import load_all
    from ...results.regression.archive import keep
    from ...results.regression.history import dated

    loaded = load_all(files)
    _tell(loaded.problems)
    added = keep(archive, dated(loaded.records))
    complain(f"{added} of {counted(len(loaded.records), 'record')} added to {archive}")


def _tell(problems: Sequence[str]) -> None:
    for problem in problems:
        complain(problem)
