"""`moebench history`: what every point took at each commit, and where that changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...reports.text_table import markdown
from ..errors import refuse, told
from .verdicts import AsJson

if TYPE_CHECKING:
    from ...results.regression.history import Series

ARCHIVE = Path("results/regression/history")
SHORT = 10  # digits by which people know a commit


def history(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Files that `moebench run` or `moebench gate` wrote.", show_default="what was kept"),
    ] = None,
    kernel: Annotated[
        list[str] | None, typer.Option("--kernel", "-k", help="Only this kernel; may be given again.")
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
    from ...results.record.store import load_all
    from ...results.regression.archive import kept
    from ...results.regression.history import history as series_of

    with told():
        if files and keep:
            _keep(files, archive)
        loaded = load_all(files) if files and not keep else kept(archive)
    _tell(loaded.problems)
    if not files and not loaded.records:
        refuse(f"nothing is kept in {archive}: give files, with --keep to have them here from now on")
    found = series_of([record for record in loaded.records if not kernel or record.kernel in kernel])
    if not found:
        refuse("no record passed at a known commit: `moebench gate` and `moebench run` in a clean checkout make some")
    if as_json:
        typer.echo(json.dumps([asdict(one) | {"environment": one.environment.model_dump()} for one in found], indent=2))
        return
    machines = {_machine(one): None for one in found}
    for machine in machines:
        typer.echo(f"## {machine}\n")
        for one in found:
            if _machine(one) == machine:
                typer.echo(f"### {_point(one)}\n\n{_table(one)}\n")
    typer.echo("\n".join(_summary(found)))


def _keep(files: Sequence[Path], archive: Path) -> None:
    from ...reports.numbers import counted
    from ...results.record.store import load_all
    from ...results.regression.archive import keep
    from ...results.regression.history import dated

    loaded = load_all(files)
    _tell(loaded.problems)
    added = keep(archive, dated(loaded.records))
    typer.echo(f"moebench: {added} of {counted(len(loaded.records), 'record')} added to {archive}", err=True)


def _tell(problems: Sequence[str]) -> None:
    for problem in problems:
        typer.echo(f"moebench: {problem}", err=True)


def _machine(series: Series) -> str:
    from ...reports.numbers import plain
    from ...reports.text_table import escaped

    at = series.environment
    software = {"torch": at.torch, "Triton": at.triton, "CUDA": at.cuda, "driver": at.driver}
    versions = [f"{name} {version}" for name, version in software.items() if version]
    words = [at.device, f"{at.cores} cores", f"{at.threads} threads", at.os, f"Python {at.python}", *versions]
    return escaped(plain(", ".join(words)))


def _point(series: Series) -> str:
    from ...reports.numbers import exact, plain
    from ...reports.text_table import escaped

    key = series.key
    return escaped(plain(f"{key.kernel} {key.config} at {key.suite}: {key.series}, {exact(key.x)}"))


def _table(series: Series) -> str:
    """A row for every commit; where one begins a change, by how much."""
    from ...reports.numbers import number

    ratios = {change.first_after: f"{change.ratio:.3f}" for change in series.changes}
    rows = [
        (
            one.commit[:SHORT],
            one.time[:16].replace("T", " "),
            str(one.processes),
            number(one.ns / 1e6),
            ratios.get(one.commit, ""),
        )
        for one in series.measured
    ]
    return markdown(["commit", "measured, UTC", "processes", "median, ms", "× before"], rows, words=["commit"])


def _summary(found: Sequence[Series]) -> Iterator[str]:
    """A line for every change, with the commits to look at."""
    from ...reports.numbers import counted

    for series in found:
        for change in series.changes:
            yield (
                f"- {_point(series)}: {change.ratio:.3f} times as long from "
                f"{change.last_before[:SHORT]}..{change.first_after[:SHORT]} on (p = {change.p:g})"
            )
    yield f"{counted(len(found), 'point')}, {counted(sum(len(series.changes) for series in found), 'change')}"
