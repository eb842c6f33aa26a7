"""`moebench predict`: forecast a layer on a cluster that need not be available."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .. import screen
from ..errors import user_errors
from ..problem_options import ONE_FORWARD, ProblemWords, problem_options


class WireDtype(StrEnum):
    """Element type of rows between ranks."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    float8_e4m3fn = "float8_e4m3fn"


@problem_options(many=("ranks",), tokens="4096", dtype="bfloat16", ranks="8..65536", **ONE_FORWARD)
def predict(
    words: ProblemWords,
    machine: Annotated[
        str,
        typer.Option(
            help="Machine of `moebench list machines`, or a .toml file that describes one.", show_default=False
        ),
    ],
    wire: Annotated[
        WireDtype | None, typer.Option(help="Element type of rows between ranks.", show_default="that of the tokens")
    ] = None,
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
        from ...results.record.file_content import FileContent, refuse_to_replace
        from ...results.record.prediction import write
        from ...suites.prediction.machine import machine as described
        from ...suites.prediction.predict import PredictionRequest, predict

        if output is not None:
            refuse_to_replace(output, FileContent.predictions)
        ranks, of_one = words.taken_out("ranks")
        ((layer, problem),) = of_one.problems()
        request = PredictionRequest(
            series=f"{layer.name} on {machine}",
            problem=problem,
            machine=described(machine),
            ranks=ranks,
            wire=None if wire is None else wire.value,
            chunks=chunks,
        )
        predictions = list(predict(request))
        if output is not None:
            write(output, predictions)
    if as_json:
        screen.say_json([one.model_dump(exclude_none=True) for one in predictions])
        return
    from ...reports.numbers import plain
    from ...reports.tables.prediction_table import prediction_table

    console = screen.console()
    console.print(plain(f"{request.series}: {request.machine.summary}"))
    for part in prediction_table(predictions):
        console.print(part)
