"""Verdicts as they are shown, and the exit code they lead to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ...reports.text_table import markdown
from ..errors import BAD_ANSWER, refuse

if TYPE_CHECKING:
    from ...results.regression.verdicts import Verdict

TITLES = ("verdict", "point", "kernel", "old, ms", "new, ms", "ratio", "95 % interval", "processes", "why")
REASON = 120  # characters of a reason in a table; JSON has them all
WORDS = ("verdict", "point", "kernel", "why")

Floor = Annotated[float, typer.Option(min=0, help="Least slowdown that counts, as a share of the old time.")]
Strict = Annotated[bool, typer.Option("--strict", help="Leave with 2 where a point could not be judged.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def conclude(verdicts: Sequence[Verdict], *, strict: bool, as_json: bool) -> None:
    """Show the verdicts, the worst first, and leave with 1 if anything is worse.

    With 2 if nothing could be compared, or with ``strict`` if any point could not be judged.
    """
    from ...reports.numbers import counted, plain
    from ...results.regression.verdicts import Outcome

    if not any(verdict.status.compared for verdict in verdicts):
        reasons = dict.fromkeys(plain(verdict.reason) for verdict in verdicts if verdict.reason)
        refuse(f"nothing could be compared: {next(iter(reasons), 'there are no common points')}")
    standings = list(Outcome)
    ranked = sorted(verdicts, key=lambda verdict: standings.index(verdict.status))
    counts = Counter(verdict.status.value for verdict in ranked)
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    if as_json:
        typer.echo(json.dumps([asdict(verdict) | {"key": verdict.key.plain()} for verdict in ranked], indent=2))
    else:
        typer.echo(f"{_table(ranked)}\n\n{counted(len(ranked), 'point')}: {said}")
    if any(verdict.status.worse for verdict in ranked):
        raise typer.Exit(BAD_ANSWER)
    if strict and any(not verdict.status.clear for verdict in ranked):
        refuse(f"not every point could be judged: {said}; without --strict that is no failure")


def _table(verdicts: Sequence[Verdict]) -> str:
    """Markdown, in which text from records is shown and does nothing else."""
    from ...reports.numbers import MISSING, exact, number, plain
    from ...reports.text_table import escaped

    problems: dict[tuple[object, ...], set[str]] = {}
    for key in (verdict.key for verdict in verdicts):
        problems.setdefault((key.suite, key.series, key.x), set()).add(key.problem)

    def row(verdict: Verdict) -> tuple[str, ...]:
        key, ratio = verdict.key, verdict.ratio
        place = f"{key.suite}: {key.series}, {exact(key.x)}"
        if len(problems[key.suite, key.series, key.x]) > 1:
            place += f" ({key.problem})"
        return (
            verdict.status.value,
            place,
            f"{key.kernel} {key.config}",
            *(MISSING if ns is None else number(ns / 1e6) for ns in (verdict.old_ns, verdict.new_ns)),
            f"{ratio.value:.3f}" if ratio else MISSING,
            f"{ratio.low:.3f} to {ratio.high:.3f}" if ratio else MISSING,
            " + ".join(map(str, verdict.processes)) if ratio else MISSING,
            plain(verdict.reason, REASON),
        )

    cells = [[escaped(plain(cell)) for cell in row(verdict)] for verdict in verdicts]
    return markdown(TITLES, cells, words=WORDS)
