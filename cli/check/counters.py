"""`moebench counters`: what the implementations do, counted without a clock and compared with what was accepted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BAD_ANSWER, refuse, user_errors
from ..problem_options import separated
from ..screen import say, tell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ...results.counter_changes import CounterChange
    from ...results.counters import Counters, Source
    from ...suites.gate.counted_cases import Counted


def counters(
    kernel: Annotated[
        list[str] | None,
        typer.Option(
            "--kernel", "-k", metavar="NAME,…", callback=separated, help="Only this kernel; may be given again."
        ),
    ] = None,
    machine_code: Annotated[
        bool,
        typer.Option(
            "--machine-code",
            help="Compile the Triton kernels for every GPU and count what their machine code holds instead; no GPU is "
            "needed, and all kernels take minutes.",
        ),
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The accepted counters.",
            show_default="those of the checkout here, else those that moebench came with",
        ),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write the counters as they are now over the accepted ones.")
    ] = False,
) -> None:
    """Count what the kernels do, and say what has changed since it was last accepted.

    FLOPs, padding, drops, bytes, memory, traffic, launches, host waits and configurations; with --machine-code
    registers, spills, shared memory, occupancy and instructions. Nothing is timed, and the counters are the same on
    every machine. Exit code 1 means that something is worse, broken, missing, or different where neither is better;
    2 that nothing could be compared.
    """
    if accept and kernel:
        refuse("--accept writes the counters of all kernels: leave out --kernel")
    baseline = baseline or _accepted(to_write=accept)
    if not baseline.is_dir():
        refuse(f"{baseline}: there is no such folder; go to the root of a checkout, or name another with --baseline")
    source: Source = "machine_code" if machine_code else "calls"
    with user_errors():
        from ...results.counter_changes import changes
        from ...results.counters import read, write

        accepted = None if accept else _of(kernel, read(baseline, source))
        counted = _compiled(kernel or []) if machine_code else _called(kernel or [])
        if accept and not counted.broken:
            write(baseline, source, counted.families)
    found = _of(kernel, {point: of for points in counted.families.values() for point, of in points.items()})
    if accepted is not None and not accepted.keys() & found.keys():
        why = next(iter([*counted.refused.values(), *counted.broken.values()]), "nothing of it was accepted before")
        refuse(f"there is nothing to compare: {why}")
    since = changes(found if accepted is None else accepted, found, refused=counted.refused, broken=counted.broken)
    for line in _lines(since):
        say(line)
    directions = Counter(change.direction.value for change in since)
    summary = ", ".join(f"{count} {direction}" for direction, count in directions.items()) or "as accepted"
    say(f"{sum(map(len, found.values()))} counters: {summary}")
    if counted.broken:
        tell("what is broken cannot be accepted, nor anything beside it: mend it first")
    elif any(change.direction.bad for change in since):
        option = " --machine-code" if machine_code else ""
        tell(f"to accept them: moebench counters{option} --accept, and commit {baseline}")
    if any(change.direction.bad for change in since):
        raise typer.Exit(BAD_ANSWER)


def _accepted(*, to_write: bool) -> Path:
    """Return the folder of accepted counters in the checkout here; to be read, else the one beside the package."""
    from ...results.counters import ACCEPTED, ACCEPTED_HERE

    return ACCEPTED_HERE if to_write or ACCEPTED_HERE.is_dir() else ACCEPTED


def _called(kernels: Sequence[str]) -> Counted:
    from ...kernels.catalog import KERNELS
    from ...suites.gate.counted_cases import count

    return count(kernels or KERNELS.names())


def _compiled(kernels: Sequence[str]) -> Counted:
    from ...kernels.compiler.survey import unable
    from ...suites.gate.compiled_layers import counted, layers
    from ..compiling import compile_layers, refuse_interrupted

    if reason := unable():
        refuse(reason)
    work = layers(kernels)
    outcomes = compile_layers(work)
    refuse_interrupted(outcomes, work)
    return counted(outcomes)


def _lines(changes: Iterable[CounterChange]) -> Iterator[str]:
    """Return a line for each change of a kernel, with the first of the points where it is the same."""
    points: dict[tuple[str, str, str], list[str]] = {}
    for change in changes:
        points.setdefault((change.direction.value, _kernel(change.point), change.text), []).append(change.point)
    for (direction, _, text), (first, *more) in points.items():
        yield f"{direction:9}  {first}{f' and {len(more)} more' if more else ''}: {text}"


def _of(kernels: list[str] | None, points: Counters) -> Counters:
    """Return the points of some kernels; without names all."""
    return {point: found for point, found in points.items() if not kernels or _kernel(point) in kernels}


def _kernel(point: str) -> str:
    """Return the name that a point begins with."""
    return point.partition(",")[0].partition(" ")[0]
