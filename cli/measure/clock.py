"""`moebench clock`: comparison of our clocks with those of other projects, on this device."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...common.files import write_whole
from ..errors import BAD_ANSWER, refuse, user_errors
from ..screen import say, say_table
from .run import Device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...execution.trial.clock_check import Comparison, Skipped

MODEL = "Mixtral-8x7B"
CPU_WIDTH = 256
KERNELS = {"cpu": ("matmul", "scatter"), "cuda": ("matmul", "dense", "triton_scatter")}
TITLES = ("kernel", "tokens", "clock", "ms", "beside", "its ms", "difference (%)")
WORDS = ("kernel", "clock", "beside")


def clock(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write the comparisons to, as JSON.", show_default=False),
    ] = None,
    device: Annotated[
        Device | None, typer.Option(help="Device to measure on.", show_default="cuda if there is one")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparisons as JSON.")] = False,
) -> None:
    """Time calls by the cold, hot and eager clock and by others, and say by how much they differ.

    The others are Triton's do_bench and do_bench_cudagraph, torch's Timer, and the cold clock with a flush that writes.
    A comparison that fails does not stop the others; exit code 1 means that all failed.
    """
    from ...execution.workers.affinity import prepare_threads

    prepare_threads(0, 1)  # as in the workers, whose clocks are compared
    import torch

    from ...execution.trial.clock_check import Comparison, Skipped, check, pairs
    from ...execution.workers.rank_setup import clocks_of, open_device
    from ...kernels.hardware.device_names import device_name, driver
    from ...kernels.problem.models import model
    from ...results.record.environment import commit, fingerprint
    from ...results.timing.disturbance import Watch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        refuse("--device cuda: torch sees no CUDA device; give --device cpu")
    if output:
        _writable(output)
    opened = open_device(device)
    shape = model(MODEL).problem(T=1, dtype="bfloat16")
    if device == "cpu":
        shape = shape.replace(dtype="float32").scaled(CPU_WIDTH)
    found = list(check(opened, shape, KERNELS[device], pairs(opened, clocks_of(opened, Watch()))))
    compared = [one for one in found if isinstance(one, Comparison)]
    skipped = [one for one in found if isinstance(one, Skipped)]
    environment = fingerprint(device, device=device_name(opened), driver=driver(opened))
    text = json.dumps(
        {
            "environment": environment.model_dump(),
            "commit": commit(),
            "comparisons": [dataclasses.asdict(one) | {"difference": one.difference} for one in compared],
            "skipped": [dataclasses.asdict(one) for one in skipped],
        },
        indent=2,
    )
    if output:
        write_whole(output, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        show(compared, skipped)
    if not compared:
        raise typer.Exit(BAD_ANSWER)


def _writable(output: Path) -> None:
    """Refuse a file that cannot be written, before anything is measured."""
    from ...results.record.file_content import FileContent, refuse_to_replace

    with user_errors():
        refuse_to_replace(output, FileContent.other)
    try:
        output.open("a", encoding="utf-8").close()
    except OSError as error:
        refuse(f"--output {output}: {error.strerror}; give another file")


def show(compared: Sequence[Comparison], skipped: Sequence[Skipped]) -> None:
    """Print a table of the comparisons, and a line for each one that failed."""
    rows = [
        (
            one.kernel,
            str(one.tokens),
            one.cache,
            f"{one.ours_ms:.4g}",
            one.rival,
            f"{one.rival_ms:.4g}",
            f"{100 * one.difference:+.1f}",
        )
        for one in compared
    ]
    say_table(TITLES, rows, words=WORDS)
    for one in skipped:
        say(f"{one.kernel}, T={one.tokens}, beside {one.rival}: {one.reason}")
