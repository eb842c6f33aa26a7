"""`moebench gate`: a test whether the working tree is slower than a revision, on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import refuse, user_errors
from ..measure.run import Device
from .verdicts import AsJson, Floor, Strict, conclude

if TYPE_CHECKING:
    from ...results.regression.verdicts import Verdict
    from ...suites.gate.checkouts import Side

FEWEST, MOST = 8, 48


def gate(
    suites: Annotated[list[str] | None, typer.Argument(help="Suites to measure.", show_default="gate")] = None,
    base: Annotated[
        str | None, typer.Option(metavar="REV", help="Commit, tag or branch to compare with.", show_default=False)
    ] = None,
    itself: Annotated[bool, typer.Option("--self", help="Compare the working tree with itself instead.")] = False,
    kernel: Annotated[
        list[str] | None, typer.Option("--kernel", "-k", help="Only this kernel; may be given again.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Only points of this model's shape.", show_default=False)
    ] = None,
    device: Annotated[
        Device | None, typer.Option(help="Device to measure on.", show_default="cuda if there is one")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=FEWEST, max=MOST, help="Most processes a side; what is unclear then stays unclear.")
    ] = MOST,
    floor: Floor = 0.02,
    strict: Strict = False,
    as_json: AsJson = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="New folder for the records of both sides.", show_default="runs/gate-TIME"),
    ] = None,
) -> None:
    """Install a revision and the working tree side by side, measure them interleaved, and judge every point.

    Each side runs in at least 8 fresh processes, and in more where the result is unclear; points that seem slower are
    measured once more from the start. Exit code 1 means that a point is slower or broken, 2 that nothing could be
    compared.
    """
    if (base is None) is not itself:
        refuse("give the revision to compare with, --base REV, or compare the working tree with itself, --self")
    folder = output or Path("runs") / f"gate-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if folder.exists():
        refuse(f"{folder} is there already: give another --output")
    options = {"--model": model, "--device": device, "--configs": "default"}
    arguments = [word for name, value in options.items() if value for word in (name, value)]
    with user_errors():
        verdicts = _measure(base, suites or ["gate"], kernel or [], arguments, folder, floor, processes)
    conclude(verdicts, strict=strict, as_json=as_json)


def _measure(
    base: str | None,
    suites: Sequence[str],
    kernels: Sequence[str],
    arguments: Sequence[str],
    folder: Path,
    floor: float,
    processes: int,
) -> list[Verdict]:
    """Return the verdicts on the working tree; the records of both sides stay in the folder."""
    from rich.console import Console

    from ...results.record.store import Store
    from ...results.regression.sequential import LOOKS
    from ...suites.gate.paired_runs import Gate

    console = Console(stderr=True)

    def tell(sentence: str) -> None:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    try:
        with tempfile.TemporaryDirectory(prefix="moebench-gate-") as temporary, console.status("installing both sides"):
            sides = _sides(base, Path(temporary))
            tell(f"old: {sides[0].name}\nnew: {sides[1].name}\nrecords: {folder}")
            scratch = Path(temporary, "scratch")
            scratch.mkdir()
            with Store(folder / "old.jsonl") as old, Store(folder / "new.jsonl") as new:
                asked = Gate(
                    sides=sides,
                    stores=(old, new),
                    suites=suites,
                    kernels=kernels,
                    arguments=arguments,
                    floor=floor,
                    scratch=scratch,
                    tell=tell,
                )
                return asked.verdicts([look for look in LOOKS if look <= processes])
    except KeyboardInterrupt:
        refuse(f"interrupted; `moebench compare {folder}/old.jsonl {folder}/new.jsonl` judges what there is")


def _sides(base: str | None, folder: Path) -> tuple[Side, Side]:
    """Install both sides, the old one being the revision or the tree again, in folders with equally long names."""
    from ...suites.gate.checkouts import Checkout

    checkout = Checkout.around(Path.cwd())
    old = checkout.working_tree(folder / "old") if base is None else checkout.revision(base, folder / "old")
    return old, checkout.working_tree(folder / "new")
