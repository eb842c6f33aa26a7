"""`moebench predict`: forecast a layer on a cluster that need not be available."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import user_errors


class WireDtype(StrEnum):
    """Element type of rows between ranks."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    float8_e4m3fn = "float8_e4m3fn"


def predict(
    model: Annotated[str, typer.Option("--model", "-m", help="Model that the layer is from.", show_default=False)],
    machine: Annotated[
        str,
        typer.Option(
            help="Machine of `moebench list machines`, or a .toml file that describes one.", show_default=False
        ),
    ],
    ranks: Annotated[
        str, typer.Option(metavar="RANKS", help="Numbers of ranks, with commas; A..B means powers of two.")
    ] = "8..65536",
    tokens: Annotated[int, typer.Option("--tokens-per-rank", "-T", min=1, help="Tokens of each rank.")] = 4096,
    width: Annotated[int | None, typer.Option(help="Scale the model down to this D.", show_default="as it is")] = None,
    dtype: Annotated[str, typer.Option(help="Element type.")] = "bfloat16",
    wire: Annotated[
        WireDtype | None, typer.Option(help="Element type of rows between ranks.", show_default="that of the tokens")
    ] = None,
    load: Annotated[
        str,
        typer.Option(help="Load of the experts: uniform, zipf:S, … or trace:FILE, a .npy file of recorded expert ids."),
    ] = "uniform",
    capacity: Annotated[
        float | None, typer.Option("--capacity-factor", help="Capacity factor.", show_default="dropless")
    ] = None,
    mode: Annotated[
        Literal["forward", "train"], typer.Option(help="One call is a forward or a training step.")
    ] = "forward",
    chunks: Annotated[int, typer.Option(min=1, help="Chunks of a call; one communicates while another computes.")] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write the predictions to.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Predict time, bytes and memory per rank of one layer for every dispatcher, and name the fastest.

    Nothing is measured. With more ranks than experts, the ranks form groups, each of which holds all experts.
    """
    with user_errors():
        from ...kernels.problem.models import model as named
        from ...results.record.file_content import FileContent, refuse_to_replace
        from ...results.record.prediction import write
        from ...suites.prediction.machine import machine as described
        from ...suites.prediction.predict import PredictionRequest, predict, rank_counts
        from ..tuning.tune_options import load_of

        if output is not None:
            refuse_to_replace(output, FileContent.predictions)
        preset = named(model)
        problem = preset.problem(T=tokens, dtype=dtype, load=load_of(load), capacity_factor=capacity, mode=mode)
        if width is not None:
            problem = problem.scaled(width)
        request = PredictionRequest(
            series=f"{preset.name} on {machine}",
            problem=problem,
            machine=described(machine),
            ranks=rank_counts(ranks),
            wire=None if wire is None else wire.value,
            chunks=chunks,
        )
        predictions = list(predict(request))
        if output is not None:
            write(output, predictions)
    if as_json:
        typer.echo(json.dumps([one.model_dump(exclude_none=True) for one in predictions], indent=2))
        return
    from rich.console import Console

    from ...reports.tables.prediction_table import prediction_table

    console = Console(highlight=False, markup=False)
    console.print(f"{request.series}: {request.machine.summary}")
    for part in prediction_table(predictions):
        console.print(part)
