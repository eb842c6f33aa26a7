"""`moebench gate`: a test whether the working tree is slower than a revision, on this machine."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import screen
from ..errors import refuse, user_errors
from ..measure.run import Device, best_device
from ..problem_options import SEVERAL, ProblemWords, problem_options, separated
from .verdicts import AsJson, Floor, Strict, conclude

if TYPE_CHECKING:
    from ...results.record import Size
    from ...results.regression.verdicts import Verdict
    from ...suites.gate.checkouts import Side
    from ...suites.layer import Asked

FEWEST, MOST = 8, 48


@problem_options(many=("model", *SEVERAL), otherwise="the suite's")
def gate(
    words: ProblemWords,
    suites: Annotated[
        list[str] | None, typer.Argument(help="Suites to measure, by name or as TOML files.", show_default="gate")
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="REV", help="Commit, tag or branch to compare with.", show_default=False)
    ] = None,
    itself: Annotated[bool, typer.Option("--self", help="Compare the working tree with itself instead.")] = False,
    kernel: Annotated[
        list[str] | None,
        typer.Option(
            "--kernel", "-k", metavar="NAME,…", callback=separated, help="Only this kernel; may be given again."
        ),
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
    with user_errors():
        names = [_absolute(name) for name in suites or ["gate"]]
        _check(names, kernel or [], words.asked(), device)
        arguments = [*words.command_line(), *(("--device", device) if device else ()), "--configs", "default"]
        verdicts = _measure(base, names, kernel or [], arguments, folder, floor, processes)
    conclude(verdicts, _remedy(verdicts, processes), strict=strict, as_json=as_json)


def _remedy(verdicts: Sequence[Verdict], processes: int) -> str:
    """Return the sentence with the command that would settle unclear points, empty where there are none."""
    from ...results.regression.verdicts import Outcome

    if all(verdict.status is not Outcome.unclear for verdict in verdicts):
        return ""
    if processes < MOST:
        return f"unclear is settled by more processes: the same command with `--processes {MOST}`"
    return (
        f"unclear after {MOST} processes a side: `moebench doctor` names what disturbs this machine; on a quieter one, "
        "or with a larger `--floor`, the same command settles it"
    )


def _absolute(suite: str) -> str:
    """Return a suite's file as a path that holds in every folder; a name as it is."""
    from ...suites.suite_file import SUFFIX

    return str(Path(suite).resolve()) if suite.endswith(SUFFIX) else suite


def _check(suites: Sequence[str], kernels: Sequence[str], asked: Asked, device: Device | None) -> None:
    """Refuse what this tree cannot plan, before both sides are installed."""
    from ...suites.plan import plan

    device = device or best_device()
    size: Size = "small" if device == "cpu" else "full"
    plan(suites, size=size, device_type=device, kernels=kernels, asked=asked, configs="default")


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
    from ...results.record.store import Store
    from ...results.regression.sequential import LOOKS
    from ...suites.gate.paired_runs import Gate

    console = screen.console(stderr=True)

    def tell(sentence: str) -> None:
        console.print(screen.broken(sentence, screen.width_of(sys.stderr)), soft_wrap=True)  # above the state of work

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
    from ...common.git import GitError
    from ...suites.gate.checkouts import Checkout

    try:
        checkout = Checkout.around(Path.cwd())
    except GitError as error:
        refuse(f"{Path.cwd()} is in no checkout of moebench ({error}): change into one")
    try:
        old = checkout.working_tree(folder / "old") if base is None else checkout.revision(base, folder / "old")
    except GitError as error:
        refuse(f"--base {base} cannot be read ({error}): give a commit, tag or branch of this checkout")
    return old, checkout.working_tree(folder / "new")
