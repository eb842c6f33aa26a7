"""`moebench calibrate`: measure the ranks of a job, and describe them for `moebench predict`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import BAD_ANSWER, refuse, user_errors
from ..screen import complain, say
from .run import Device

LOCAL_RANKS = 4


def calibrate(
    ranks: Annotated[
        int | None,
        typer.Option(
            min=2, help="Number of local processes to start.", show_default=f"{LOCAL_RANKS}; inside torchrun, its ranks"
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write the machine description to.")] = Path(
        "machine.toml"
    ),
    device: Annotated[
        Device | None, typer.Option(help="Device of each rank.", show_default="cuda if there are enough")
    ] = None,
) -> None:
    """Measure links, products and copies of several ranks at once, and write a machine description, within a minute.

    Inside torchrun the ranks are those that it started. Exit code 1 means that modelled and measured times are too far
    apart for a prediction to be useful.
    """
    inside = "TORCHELASTIC_RUN_ID" in os.environ
    if inside and ranks is not None:
        refuse(f"--ranks {ranks}: torchrun has already started the ranks, leave the option out")
    with user_errors():
        from ...common.files import write_whole
        from ...suites.prediction.calibration.calibration import calibrate
        from ...suites.prediction.calibration.probe import ProbeError, launch, take_part
        from ...suites.prediction.machine import SUFFIX, to_toml

        if output.suffix != SUFFIX:
            refuse(f"--output {output}: `moebench predict` reads {SUFFIX} files, name it {output.stem}{SUFFIX}")
        if not os.access(output.parent, os.W_OK):
            refuse(f"--output {output}: {output.parent} is not a folder that can be written to, give another")
        if inside:
            from ...execution.workers.rendezvous import talk_through
            from ...execution.workers.torchrun import Launched

            talk_through(Launched.from_environment().interface())
        wanted = int(os.environ["LOCAL_WORLD_SIZE"]) if inside else ranks or LOCAL_RANKS
        kind = _kind(device, wanted)
        try:
            probe = take_part(kind) if inside else launch(wanted, kind)
        except ProbeError as error:
            refuse(str(error))
        if int(os.environ.get("RANK", "0")):
            return
        found = calibrate(probe, output.stem, kind)
    write_whole(output, to_toml(found.machine))
    say(found.machine.summary)
    for line in found.lines():
        say(f"  {line}")
    say(f"the model {found.agreement}")
    say(f"machine: {output}; `moebench predict --machine {output}` reads it")
    if probe.beside_others:
        complain(f"{probe.beside_others}: measure again on an idle machine")
    if found.fit.bad:
        complain("these times are too far apart for a useful prediction: measure again on an idle machine")
        raise typer.Exit(BAD_ANSWER)


def _kind(device: Device | None, ranks: int) -> Device:
    import torch

    return device or ("cuda" if torch.cuda.device_count() >= ranks else "cpu")
