"""`moebench calibrate`: measure the ranks that are there, and describe them for `moebench predict`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import BAD_ANSWER, refuse, told
from .run import Device

if TYPE_CHECKING:
    from ...suites.prediction.machine import MachineDescription

LOCAL_RANKS = 4


def calibrate(
    ranks: Annotated[
        int | None,
        typer.Option(
            min=2, help="Local processes to start.", show_default=f"{LOCAL_RANKS}; inside torchrun, its ranks"
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Machine description to write.")] = Path(
        "machine.toml"
    ),
    device: Annotated[
        Device | None, typer.Option(help="What the ranks are.", show_default="cuda if there are enough")
    ] = None,
) -> None:
    """Measure links, products and copies of several ranks at once, and write a machine description, within a minute.

    Inside torchrun the ranks are those it started, on as many nodes. Exit code 1 means that the model's times and the
    measured ones are too far apart for a prediction to be worth much.
    """
    inside = "TORCHELASTIC_RUN_ID" in os.environ
    if inside and ranks is not None:
        refuse(f"--ranks {ranks}: torchrun has started the ranks already, leave it out")
    with told():
        from ...suites.prediction.calibration.calibration import calibrate
        from ...suites.prediction.calibration.probe import ProbeError, launch, take_part
        from ...suites.prediction.machine import SUFFIX, to_toml

        if output.suffix != SUFFIX:
            refuse(f"--output {output}: `moebench predict` reads {SUFFIX} files, name it {output.stem}{SUFFIX}")
        if not os.access(output.parent, os.W_OK):
            refuse(f"--output {output}: {output.parent} is no folder that can be written to, give another")
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
    output.write_text(to_toml(found.machine), encoding="utf-8")
    typer.echo(found.machine.summary)
    for line in _lines(found.machine):
        typer.echo(f"  {line}")
    typer.echo(f"the model {found.agreement}")
    typer.echo(f"machine: {output}; `moebench predict --machine {output}` reads it")
    if found.fit.bad:
        typer.echo("moebench: that is too far for a prediction to be worth much: measure again, undisturbed", err=True)
        raise typer.Exit(BAD_ANSWER)


def _lines(machine: MachineDescription) -> Iterator[str]:
    """What was measured, a line for each class of links and each dtype."""
    for name, link in (("inside a node", machine.node), ("across nodes", machine.across)):
        if link is not None:
            yield (
                f"{name:<14} {1e6 * link.latency_s.value:.0f} µs, {1e6 * link.message_s.value:.0f} µs a message more;"
                f" {link.rate.rank / 1e9:.3g} GB/s of a rank, {link.rate.node / 1e9:.3g} GB/s of a node"
            )
    for dtype, products in machine.products.items():
        yield (
            f"{dtype:<14} {products.rate.rank / 1e12:.3g} TFLOP/s of a rank,"
            f" {products.rate.node / 1e12:.3g} TFLOP/s of a node, in products of experts"
        )
    memory = machine.memory
    yield f"{'copies':<14} {memory.rate.rank / 1e9:.3g} GB/s of a rank, {memory.rate.node / 1e9:.3g} GB/s of a node"
    yield f"{'a layer':<14} {1e6 * machine.layer_s.value:.0f} µs, whatever it does"


def _kind(device: Device | None, ranks: int) -> Literal["cpu", "cuda"]:
    import torch

    if device is None:
        return "cuda" if torch.cuda.device_count() >= ranks else "cpu"
    return "cuda" if device is Device.cuda else "cpu"
