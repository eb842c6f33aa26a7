"""`moebench counters`: what the implementations do, counted without a clock, against what was accepted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BAD_ANSWER, refuse, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...results.counters import CounterChange, Counters

ACCEPTED = Path("results") / "recorded" / "counters"


def counters(
    kernel: Annotated[
        list[str] | None, typer.Option("--kernel", "-k", help="Only this kernel; may be given again.")
    ] = None,
    baseline: Annotated[Path, typer.Option(metavar="FOLDER", help="The accepted counters.")] = ACCEPTED,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write the counters as they are now over the accepted ones.")
    ] = False,
) -> None:
    """Count what the kernels do, and say what has changed since it was last accepted.

    FLOPs, padding, drops, bytes, memory, traffic, launches, host waits and configurations: nothing is timed, and the
    counters are the same on every machine. Exit code 1 means that something is worse, broken, missing, or different
    where neither is better; 2 that nothing could be compared.
    """
    if accept and kernel:
        refuse("--accept writes the counters of all kernels: leave out --kernel")
    if not baseline.is_dir():
        refuse(f"{baseline}: there is no such folder; go to the root of a checkout, or name another with --baseline")
    with told():
        from ...kernels.catalog import KERNELS
        from ...results.counters import changes, read, write
        from ...suites.gate.counted_cases import count, made_with

        accepted = None if accept else _of(kernel, read(baseline, made_with()))
        counted = count(kernel or KERNELS.names())
        if accept and not counted.broken:
            write(baseline, counted.families, made_with())
    found = _of(kernel, {point: of for points in counted.families.values() for point, of in points.items()})
    if accepted is not None and not accepted.keys() & found.keys():
        why = next(iter([*counted.refused.values(), *counted.broken.values()]), "nothing of it was accepted before")
        refuse(f"there is nothing to compare: {why}")
    since = changes(found if accepted is None else accepted, found, refused=counted.refused, broken=counted.broken)
    for line in _lines(since):
        typer.echo(line)
    directions = Counter(change.direction.value for change in since)
    said = ", ".join(f"{count} {direction}" for direction, count in directions.items()) or "as accepted"
    typer.echo(f"{sum(map(len, found.values()))} counters: {said}")
    if counted.broken:
        typer.echo("what is broken cannot be accepted, nor anything beside it: mend it first", err=True)
    elif any(change.direction.bad for change in since):
        typer.echo(f"to accept them: moebench counters --accept, and commit {baseline}", err=True)
    if any(change.direction.bad for change in since):
        raise typer.Exit(BAD_ANSWER)


def _lines(changes: Iterable[CounterChange]) -> Iterator[str]:
    """A line for each change of a kernel, with the first of the points where it is the same."""
    points: dict[tuple[str, str, str], list[str]] = {}
    for change in changes:
        points.setdefault((change.direction.value, _kernel(change.point), change.words), []).append(change.point)
    for (direction, _, words), (first, *more) in points.items():
        yield f"{direction:9}  {first}{f' and {len(more)} more' if more else ''}: {words}"


def _of(kernels: list[str] | None, points: Counters) -> Counters:
    """The points of some kernels; without names all."""
    return {point: found for point, found in points.items() if not kernels or _kernel(point) in kernels}


def _kernel(point: str) -> str:
    """The name that a point begins with."""
    return point.partition(",")[0].partition(" ")[0]
