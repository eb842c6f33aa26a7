"""`moebench predict`: how a layer should run on a cluster that is not there."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import told
from ..tuning.tune import Mode


class Format(StrEnum):
    """What rows travel in."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    float8_e4m3fn = "float8_e4m3fn"


def predict(
    model: Annotated[str, typer.Option("--model", "-m", help="A layer of this model.", show_default=False)],
    machine: Annotated[
        str,
        typer.Option(help="A machine; `moebench list machines` shows them. Or a .toml file.", show_default=False),
    ],
    ranks: Annotated[
        str, typer.Option(metavar="RANKS", help="Numbers of ranks, with commas; A..B means powers of two.")
    ] = "8..65536",
    tokens: Annotated[int, typer.Option("--tokens-per-rank", "-T", min=1, help="Tokens of each rank.")] = 4096,
    width: Annotated[int | None, typer.Option(help="Scale the model down to this D.", show_default="as it is")] = None,
    dtype: Annotated[str, typer.Option(help="Element type.")] = "bfloat16",
    wire: Annotated[
        Format | None, typer.Option(help="The dtype in which rows travel.", show_default="that of the tokens")
    ] = None,
    load: Annotated[
        str, typer.Option(help="Load: uniform, zipf:S, … or trace:FILE, a .npy of recorded expert ids.")
    ] = "uniform",
    capacity: Annotated[
        float | None, typer.Option("--capacity-factor", help="Capacity factor.", show_default="dropless")
    ] = None,
    mode: Annotated[Mode, typer.Option(help="What one call is.")] = Mode.forward,
    chunks: Annotated[
        int, typer.Option(min=1, help="Parts of a call, of which one communicates while another computes.")
    ] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File of predictions to write.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Predict time, bytes and memory per rank of one layer for every dispatcher, and name the fastest.

    Nothing is measured. Where there are more ranks than experts, groups of ranks hold all experts each.
    """
    with told():
        from ...kernels.problem.models import model as named
        from ...results.record.prediction import write
        from ...suites.prediction.machine import machine as described
        from ...suites.prediction.predict import PredictionRequest, predict
        from ..tuning.plan import load_of

        preset = named(model)
        problem = preset.problem(T=tokens, dtype=dtype, load=load_of(load), capacity_factor=capacity, mode=mode.value)
        if width is not None:
            problem = problem.scaled(width)
        question = PredictionRequest(
            series=f"{preset.name} on {machine}",
            problem=problem,
            machine=described(machine),
            ranks=_ranks(ranks),
            wire=None if wire is None else wire.value,
            chunks=chunks,
        )
        predictions = list(predict(question))
        if output is not None:
            write(output, predictions)
    if as_json:
        typer.echo(json.dumps([one.model_dump(exclude_none=True) for one in predictions], indent=2))
        return
    from .predict_view import show

    show(question, predictions)


def _ranks(words: str) -> list[int]:
    """Numbers with commas between them, and A..B for the powers of two from A to B; ascending, each once.

    Raises:
        InvalidProblem: naming what is none of these.
    """
    from ...kernels.problem import InvalidProblem

    found: set[int] = set()
    for word in words.split(","):
        first, dots, last = word.strip().partition("..")
        if not all(end.isdecimal() and int(end) for end in ((first, last) if dots else (first,))):
            raise InvalidProblem(f"--ranks {words}: {word.strip()!r} is no number of ranks; give 8,16,24 or 8..65536")
        if not dots:
            found.add(int(first))
            continue
        powers = {1 << exponent for exponent in range(int(last).bit_length()) if int(first) <= 1 << exponent}
        if not powers:
            raise InvalidProblem(f"--ranks {words}: there is no power of two in {word.strip()}; give 8..65536")
        found |= powers
    return sorted(found)
