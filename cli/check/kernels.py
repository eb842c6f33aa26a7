"""`moebench kernels`: what can be known of the kernels without running them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BAD_ANSWER, COULD_NOT, refuse, told

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ...kernels.compiler.machine_code import Figures
    from ...kernels.compiler.snapshot import Snapshot
    from ...kernels.compiler.survey import CompileCase, Outcome
    from ...kernels.config import Config

app = typer.Typer(no_args_is_help=True, help="Look at the kernels without running them.")

KIB = 1024
COLUMNS = ("regs", "spills", "KiB", "programs", "instructions")
LEGEND = (
    "regs: registers of a thread. spills: bytes of its stack. KiB: shared memory of a program. programs: as many as a "
    "processor holds × the warps of each. instructions: the tensor cores' in the code, and those that copy to shared "
    "memory past the registers."
)


@app.callback()
def kernels() -> None:
    """Keep `compile` a verb of its own: a single command would take the place of the group."""


@app.command("compile")
def compile_(
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--target", "-t", help="GPU to compile for; may be given again.", show_default="all that are known"
        ),
    ] = None,
    kernel: Annotated[
        list[str] | None,
        typer.Option("--kernel", "-k", help="Only this kernel; may be given again.", show_default="all in Triton"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A layer of this model, training and decoding.", show_default="some that differ"
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Only layers of this element type.", show_default="mostly bfloat16")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Every valid configuration, not the default ones only: hours for all kernels.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option("--processes", "-j", min=1, help="Compilers at work side by side.", show_default="one a core"),
    ] = None,
    snapshot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Accept the figures of all default configurations into FILE.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Say what got worse since FILE was accepted, by --snapshot.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Compile the Triton kernels for GPUs that need not be there, and show what their machine code says.

    Exit code 1 means that something does not compile, or got worse.
    """
    if snapshot and (targets or kernel or model or dtype or whole):
        refuse("a --snapshot is of all default configurations: leave out --target, --kernel, --model, --dtype, --all")
    if snapshot and not snapshot.absolute().parent.is_dir():
        refuse(f"{snapshot}: there is no such folder")
    with told():
        from rich.console import Console

        from ...kernels.compiler.survey import cases, references, unable
        from ...kernels.hardware.limits import HARDWARE

        if reason := unable():
            refuse(reason)
        accepted = _accepted(check) if check else None
        problems = references(model, dtype)
        work = [case for name in targets or HARDWARE for case in cases(name, kernel or [], problems, whole=whole)]
    outcomes = _compile(work, processes)
    if as_json:
        typer.echo(json.dumps([_plain(outcome) for outcome in outcomes], indent=2))
    else:
        _show(outcomes, Console(highlight=False), whole=whole)
    if len(outcomes) < len(work):
        typer.echo(f"moebench: interrupted; {len(outcomes)} of {len(work)} layers were compiled", err=True)
        raise typer.Exit(COULD_NOT)
    complaints = [words for outcome in outcomes for words in accepted.complaints(outcome)] if accepted else []
    for words in complaints:
        typer.echo(f"moebench: {words}", err=True)
    if complaints:
        typer.echo(f"moebench: to accept: moebench kernels compile --snapshot {check}", err=True)
    if complaints or any(outcome.error for outcome in outcomes):
        raise typer.Exit(BAD_ANSWER)
    if snapshot:
        from ...kernels.compiler.snapshot import write

        write(outcomes, snapshot)
        typer.echo(f"snapshot: {snapshot}", err=as_json)


def _accepted(path: Path) -> Snapshot:
    from importlib.metadata import version

    from ...kernels.compiler.snapshot import read

    try:
        accepted = read(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        refuse(f"{path} is no snapshot ({type(error).__name__}: {error}); --snapshot writes one")
    if accepted.triton != version("triton"):
        refuse(
            f"{path} holds the figures of Triton {accepted.triton}, this is {version('triton')}: they do not compare"
        )
    return accepted


def _compile(work: Sequence[CompileCase], processes: int | None) -> list[Outcome]:
    """Outcomes in the order of the work, as far as Ctrl-C lets it come."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ...kernels.compiler.compilers import Compilers
    from ...results.timing.cores import usable_cores

    outcomes: list[Outcome] = []
    columns = (TextColumn("compiling"), BarColumn(), MofNCompleteColumn(), TextColumn("layers,"), TimeRemainingColumn())
    shown = Progress(*columns, console=Console(stderr=True), transient=True)
    with shown as progress, Compilers(processes or len(usable_cores())) as compilers, suppress(KeyboardInterrupt):
        outcomes.extend(progress.track(compilers.compile(work), total=len(work)))
    return outcomes


def _plain(outcome: Outcome) -> dict[str, object]:
    case = outcome.case
    return {
        "target": case.target,
        "kernel": case.kernel,
        "model": case.model,
        "problem": case.problem.key,
        "config": dict(case.config),
        "launches": {name: asdict(figures) for name, figures in outcome.figures.items()},
        "error": outcome.error,
    }


def _show(outcomes: Sequence[Outcome], console: Console, *, whole: bool) -> None:
    """Layer by layer its launches; of a whole space its configurations, each by the worst of its launches."""
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.case.target, outcome.case.kernel, outcome.case.title), []).append(outcome)
    for heading, group in groups.items():
        for part in _layer(heading, group, whole=whole):
            console.print(part)
        console.print()
    if outcomes:
        console.print(LEGEND, style="dim")
        console.print(_summary(outcomes), style="bold")


def _summary(outcomes: Sequence[Outcome]) -> str:
    launches = [figures for outcome in outcomes for figures in outcome.figures.values()]
    spilt = sum(figures.spill_bytes > 0 for figures in launches)
    failed = sum(bool(outcome.error) for outcome in outcomes)
    told = f"{len(launches)} launches of {len(outcomes)} layers: {spilt or 'none'} spill"
    return f"{told}; {failed} of the layers do not compile" if failed else told


def _layer(heading: tuple[str, str, str], group: Sequence[Outcome], *, whole: bool) -> Iterator[RenderableType]:
    """A layer's name, its default configuration, its table, and what does not compile."""
    from rich.table import Table
    from rich.text import Text

    default = group[0].case.config
    yield Text(" · ".join(heading), style="bold")
    yield Text(_words(default), style="dim")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(min_width=17, overflow="fold")
    for name in COLUMNS[:-1]:
        table.add_column(justify="right", min_width=len(name))
    table.add_column(overflow="fold")
    table.add_row("configuration" if whole else "launch", *COLUMNS, style="dim")
    for outcome in group:
        for name, figures in _rows(outcome, default, whole=whole):
            table.add_row(name, *_cells(figures), style="yellow" if figures.spill_bytes else "")
    yield table
    for outcome in group:
        if outcome.error:
            named = f"{_changed(outcome.case.config, default)}: " if whole else ""
            yield Text(f"does not compile: {named}{outcome.error}", style="red")


def _rows(outcome: Outcome, default: Config, *, whole: bool) -> Iterator[tuple[str, Figures]]:
    from ...kernels.compiler.machine_code import worst

    if not whole:
        yield from outcome.figures.items()
    elif outcome.figures:
        yield _changed(outcome.case.config, default), worst(list(outcome.figures.values()))


def _changed(config: Config, default: Config) -> str:
    """What is not as in the default configuration."""
    return _words({name: value for name, value in config.items() if value != default[name]}) or "default"


def _words(config: Config) -> str:
    return " ".join(f"{name}={value}" for name, value in config.items())


def _cells(figures: Figures) -> list[str]:
    instructions = {**figures.tensor_core, **figures.bulk_copies}
    return [
        str(figures.registers),
        str(figures.spill_bytes),
        f"{figures.shared_bytes / KIB:.1f}",
        f"{figures.occupancy} × {figures.warps}",
        " ".join(f"{count} {name.removeprefix('v_')}" for name, count in instructions.items()),
    ]
