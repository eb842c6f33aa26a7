"""The end of `moebench compare` and `moebench gate`: the verdicts, and the exit code that they lead to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BAD_ANSWER, refuse
from ..screen import say, say_json, width

if TYPE_CHECKING:
    from ...results.regression.verdicts import Verdict

Floor = Annotated[float, typer.Option(min=0, help="Least slowdown that counts, as a share of the old time.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 2 where a point could not be judged.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def conclude(verdicts: Sequence[Verdict], remedy: str, *, strict: bool, as_json: bool) -> None:
    """Show the verdicts, the worst first, then the remedy for what is unclear, and exit with 1 if anything is worse.

    The exit code is 2 if nothing could be compared, or with ``strict`` if any point could not be judged.
    """
    from ...reports.numbers import counted, plain
    from ...reports.tables.verdict_table import verdict_table
    from ...results.regression.verdicts import Outcome

    if not any(verdict.status.compared for verdict in verdicts):
        reasons = dict.fromkeys(plain(verdict.reason) for verdict in verdicts if verdict.reason)
        refuse(f"nothing could be compared: {next(iter(reasons), 'there are no common points')}")
    order = list(Outcome)
    ranked = sorted(verdicts, key=lambda verdict: order.index(verdict.status))
    counts = Counter(verdict.status.value for verdict in ranked)
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    if as_json:
        say_json([asdict(verdict) | {"key": verdict.key.plain()} for verdict in ranked])
    else:
        say(f"{verdict_table(ranked, width())}\n\n{counted(len(ranked), 'point')}: {said}")
        if remedy:
            say(remedy)
    if any(verdict.status.worse for verdict in ranked):
        raise typer.Exit(BAD_ANSWER)
    if strict and any(not verdict.status.clear for verdict in ranked):
        refuse(f"not every point could be judged: {said}; without --strict that is no failure")
