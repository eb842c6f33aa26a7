"""Compilation of many layers with a progress bar, for the verbs that compile."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from . import screen
from .errors import COULD_NOT

if TYPE_CHECKING:
    from ..kernels.compiler.survey import CompileCase, CompileOutcome


def compile_layers(work: Sequence[CompileCase], processes: int | None = None) -> list[CompileOutcome]:
    """Compile layers side by side and return their outcomes in the order of the work, as far as Ctrl-C lets it come."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..common.cores import usable_cores
    from ..kernels.compiler.compilers import Compilers

    outcomes: list[CompileOutcome] = []
    columns = (TextColumn("compiling"), BarColumn(), MofNCompleteColumn(), TextColumn("layers,"), TimeRemainingColumn())
    console = screen.console(stderr=True)
    shown, sign = Progress(*columns, console=console, transient=True), screen.SignOfLife(console)
    with shown as progress, Compilers(processes or len(usable_cores())) as compilers, suppress(KeyboardInterrupt):
        for outcome in progress.track(compilers.compile(work), total=len(work)):
            outcomes.append(outcome)
            sign.say(f"{len(outcomes)} of {len(work)} layers compiled")
    return outcomes


def refuse_interrupted(outcomes: Sequence[CompileOutcome], work: Sequence[CompileCase]) -> None:
    """End the command when Ctrl-C left layers uncompiled."""
    if len(outcomes) < len(work):
        screen.complain(f"interrupted; {len(outcomes)} of {len(work)} layers were compiled")
        raise typer.Exit(COULD_NOT)
