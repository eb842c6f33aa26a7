"""`moebench trace import`: workloads of FlashInfer-Trace and SOL-ExecBench as a trace, with their real routes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .. import screen
from ..errors import user_errors

if TYPE_CHECKING:
    from ...integrations.flashinfer_trace.workload_routes import ImportedLayer

SHOWN: Final = 12  # workloads whose options are printed


def import_workloads(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A dataset of FlashInfer-Trace, or a problem of SOL-ExecBench, with its files.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write the trace to.", show_default="the folder's name, with .npz"),
    ] = None,
) -> None:
    """Make a trace of the MoE workloads in a dataset, a layer for each, and say the options that measure them.

    Routes are the stored expert ids and gate weights, or what the definition's router makes of stored logits. Nothing
    of the dataset is executed.
    """
    with user_errors():
        from ...common.errors import UserError
        from ...common.packages import installed_version
        from ...integrations.flashinfer_trace.dataset_reader import moe_workloads
        from ...integrations.flashinfer_trace.workload_routes import NoRoutes, imported
        from ...kernels.problem.traces.trace_writer import write_trace
        from ...results.record.file_content import FileContent, refuse_no_place, refuse_to_replace

        path = output or Path(f"{folder.resolve().name}.npz")
        refuse_no_place(path)
        refuse_to_replace(path, FileContent.other)
        found, without = [], []
        for workload in moe_workloads(folder):
            try:
                found.append(imported(workload))
            except NoRoutes as error:
                without.append(str(error))
        if not found:
            raise UserError(f"{folder} has no workload with stored routes: {without[0]}")
        versions = {"moebench": installed_version("moebench") or ""}
        routes = [one.routes for one in found]
        write_trace(path, routes, model=f"workloads of {folder.resolve().name}"[:1000], versions=versions)
    for reason in without:
        screen.complain(reason)
    tokens = sum(one.problem.T for one in found)
    screen.say(f"trace: {path}, {tokens:,} tokens in {len(found)} layer{'s'[: len(found) > 1]}")
    for one in found[:SHOWN]:
        screen.say(_options(path, one, alone=len(found) == 1))
    if len(found) > SHOWN:
        screen.say(f"and {len(found) - SHOWN} more: `moebench trace show {path}` lists them")


def _options(path: Path, layer: ImportedLayer, *, alone: bool) -> str:
    """Return the options of a layer's problem, and what they cannot say."""
    problem = layer.problem
    shape = ",".join(f"{name}={getattr(problem, name)}" for name in "DFEK")
    load = f"trace:{path}" + ("" if alone else f",layer={layer.routes.layer.name}")
    notes = [layer.note] if layer.note else []
    if not problem.gated or problem.activation != "silu" or problem.bias:
        fields = f'activation = "{problem.activation}", gated = {problem.gated}, bias = {problem.bias}'.lower()
        notes.append(f"in a suite file also {fields}")
    note = f"  # {'; '.join(notes)}" if notes else ""
    return f"--shape {shape} --tokens {problem.T} --dtype {problem.dtype} --load {shlex.quote(load)}{note}"
