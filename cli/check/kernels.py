"""`moebench kernels`: the Triton kernels compiled, and what is in their machine code."""

from __future__ import annotations

from typing import Annotated

import typer

from ..compiling import compile_layers, refuse_interrupted
from ..errors import BAD_ANSWER, refuse, user_errors
from .code_view import show, to_json

app = typer.Typer(no_args_is_help=True, help="Look at the kernels without running them.")


@app.callback()
def kernels() -> None:
    """Keep `compile` a subcommand: typer lets a single command take the place of its group."""


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
        typer.Option("--processes", "-j", min=1, help="Compilers that run side by side.", show_default="one a core"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Compile the Triton kernels for GPUs that this machine need not have, and show what is in their machine code.

    `moebench counters --machine-code` compares it with what was accepted. Exit code 1 means that something does not
    compile.
    """
    with user_errors():
        from ...kernels.compiler.survey import cases, references, unable
        from ...kernels.hardware.gpus import HARDWARE

        if reason := unable():
            refuse(reason)
        problems = references(model, dtype)
        work = [case for name in targets or HARDWARE for case in cases(name, kernel or [], problems, whole=whole)]
    outcomes = compile_layers(work, processes)
    if as_json:
        typer.echo(to_json(outcomes))
    else:
        show(outcomes, whole=whole)
    refuse_interrupted(outcomes, work)
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(BAD_ANSWER)
