"""`moebench kernels`: what can be known of the kernels without running them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ..compiling import compile_layers, refuse_interrupted
from ..errors import BAD_ANSWER, refuse, told

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ...kernels.compiler.machine_code import CodeCounters
    from ...kernels.compiler.survey import CompileOutcome
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Compile the Triton kernels for GPUs that this machine need not have, and show what is in their machine code.

    `moebench counters --machine-code` compares it with what was accepted. Exit code 1 means that something does not
    compile.
    """
    with told():
        from rich.console import Console

        from ...kernels.compiler.survey import cases, references, unable
        from ...kernels.hardware.gpus import HARDWARE

        if reason := unable():
            refuse(reason)
        problems = references(model, dtype)
        work = [case for name in targets or HARDWARE for case in cases(name, kernel or [], problems, whole=whole)]
    outcomes = compile_layers(work, processes)
    if as_json:
        typer.echo(json.dumps([_plain(outcome) for outcome in outcomes], indent=2))
    else:
        _show(outcomes, Console(highlight=False), whole=whole)
    refuse_interrupted(outcomes, work)
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(BAD_ANSWER)


def _plain(outcome: CompileOutcome) -> dict[str, object]:
    case = outcome.case
    return {
        "target": case.target,
        "kernel": case.kernel,
        "model": case.model,
        "problem": case.problem.key,
        "config": dict(case.config),
        "launches": {name: asdict(code) for name, code in outcome.launches.items()},
        "error": outcome.error,
    }


def _show(outcomes: Sequence[CompileOutcome], console: Console, *, whole: bool) -> None:
    """Layer by layer its launches; of a whole space its configurations, each by the worst of its launches."""
    groups: dict[tuple[str, str, str], list[CompileOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.case.target, outcome.case.kernel, outcome.case.title), []).append(outcome)
    for heading, group in groups.items():
        for part in _layer(heading, group, whole=whole):
            console.print(part)
        console.print()
    if outcomes:
        console.print(LEGEND, style="dim")
        console.print(_summary(outcomes), style="bold")


def _summary(outcomes: Sequence[CompileOutcome]) -> str:
    launches = [code for outcome in outcomes for code in outcome.launches.values()]
    spilt = sum(code.spill_bytes > 0 for code in launches)
    failed = sum(bool(outcome.error) for outcome in outcomes)
    told = f"{len(launches)} launches of {len(outcomes)} layers: {spilt or 'none'} spill"
    return f"{told}; {failed} of the layers do not compile" if failed else told


def _layer(heading: tuple[str, str, str], group: Sequence[CompileOutcome], *, whole: bool) -> Iterator[RenderableType]:
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
        for name, code in _rows(outcome, default, whole=whole):
            table.add_row(name, *_cells(code), style="yellow" if code.spill_bytes else "")
    yield table
    for outcome in group:
        if outcome.error:
            named = f"{_changed(outcome.case.config, default)}: " if whole else ""
            yield Text(f"does not compile: {named}{outcome.error}", style="red")


def _rows(outcome: CompileOutcome, default: Config, *, whole: bool) -> Iterator[tuple[str, CodeCounters]]:
    from ...kernels.compiler.machine_code import worst

    if not whole:
        yield from outcome.launches.items()
    elif outcome.launches:
        yield _changed(outcome.case.config, default), worst(list(outcome.launches.values()))


def _changed(config: Config, default: Config) -> str:
    """What is not as in the default configuration."""
    return _words({name: value for name, value in config.items() if value != default[name]}) or "default"


def _words(config: Config) -> str:
    return " ".join(f"{name}={value}" for name, value in config.items())


def _cells(code: CodeCounters) -> list[str]:
    instructions = {**code.tensor_core, **code.bulk_copies}
    return [
        str(code.registers),
        str(code.spill_bytes),
        f"{code.shared_bytes / KIB:.1f}",
        f"{code.occupancy} × {code.warps}",
        " ".join(f"{count} {name.removeprefix('v_')}" for name, count in instructions.items()),
    ]
