"""`moebench kernels`: the Triton kernels compiled, and what is in their machine code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..compiling import compile_layers, refuse_interrupted
from ..errors import BAD_ANSWER, refuse, user_errors
from ..problem_options import SEVERAL, ProblemWords, problem_options, separated
from ..screen import say_json

if TYPE_CHECKING:
    from ...kernels.problem import Problem

app = typer.Typer(no_args_is_help=True, help="Look at the kernels without running them.")


@app.callback()
def kernels() -> None:
    """Keep `compile` a subcommand: typer lets a single command take the place of its group."""


@app.command("compile")
@problem_options(many=("model", *SEVERAL), otherwise="some that differ")
def compile_(
    words: ProblemWords,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--target", "-t", help="GPU to compile for; may be given again.", show_default="all that are known"
        ),
    ] = None,
    kernel: Annotated[
        list[str] | None,
        typer.Option(
            "--kernel",
            "-k",
            metavar="NAME,…",
            callback=separated,
            help="Only this kernel; may be given again.",
            show_default="all in Triton",
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Every valid configuration, not the default ones only: hours for all kernels.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Compilers that run side by side.", show_default="one a core"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Compile the Triton kernels for GPUs that this machine need not have, and show what is in their machine code.

    Of a layer that is named, a training step of 8192 tokens is compiled and the decoding of 16, unless the words say
    otherwise.

    `moebench counters --machine-code` compares it with what was accepted. Exit code 1 means that something does not
    compile.
    """
    with user_errors():
        from ...kernels.compiler.survey import cases, unable
        from ...kernels.hardware.gpus import HARDWARE
        from .code_view import plain, show

        problems = _problems(words)
        if reason := unable():
            refuse(reason)
        work = [case for name in targets or HARDWARE for case in cases(name, kernel or [], problems, whole=whole)]
    outcomes = compile_layers(work, jobs)
    if as_json:
        say_json(plain(outcomes))
    else:
        show(outcomes, whole=whole)
    refuse_interrupted(outcomes, work)
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(BAD_ANSWER)


def _problems(words: ProblemWords) -> list[tuple[str, Problem]]:
    """Return the problems to compile for, by the name of their layer; of a block that of its experts."""
    from ...kernels.compiler.survey import references, usual

    fields = words.fields()
    if not words.layers() and not fields:
        return references()
    if not words.layers() and set(fields) == {"dtype"}:
        return [one for dtype in fields["dtype"] for one in references(dtype=str(dtype))]
    problems = [(layer.title, problem.core) for layer, problem in words.problems(T=(8192, 16), dtype=("bfloat16",))]
    return problems if "mode" in fields else [(name, usual(problem)) for name, problem in problems]
