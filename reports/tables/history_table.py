"""Histories of points as Markdown: a table for each point, and a line for each change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ...results.regression.history import Series
from ..numbers import counted, exact, number, plain
from .stacked_table import fitted
from .text_table import escaped

SHORT: Final = 10  # digits by which people know a commit


def history_lines(found: Sequence[Series], width: int | None = None) -> Iterator[str]:
    """Yield the text of some histories: machine by machine a table for each point, then what changed.

    No table is wider than ``width``.
    """
    machines: dict[str, list[Series]] = {}
    for series in found:
        machines.setdefault(_machine(series), []).append(series)
    for machine, measured in machines.items():
        yield f"## {machine}\n"
        for series in measured:
            yield f"### {_point(series)}\n\n{_table(series, width)}\n"
    yield from _changes(found)


def _machine(series: Series) -> str:
    at = series.environment
    software = {"torch": at.torch, "Triton": at.triton, "CUDA": at.cuda, "driver": at.driver}
    versions = [f"{name} {version}" for name, version in software.items() if version]
    words = [at.device, f"{at.cores} cores", f"{at.threads} threads", at.os, f"Python {at.python}", *versions]
    return escaped(plain(", ".join(words)))


def _point(series: Series) -> str:
    key = series.key
    return escaped(plain(f"{key.kernel} {key.config} at {key.suite}: {key.series}, {exact(key.x)}"))


def _table(series: Series, width: int | None) -> str:
    """Return a table with a row for every commit; one that begins a change has the ratio of the times."""
    ratios = {change.first_after: f"{change.ratio:.3f}" for change in series.changes}
    rows = [
        (
            one.commit[:SHORT],
            one.time[:16].replace("T", " "),
            str(one.processes),
            number(one.ns / 1e6),
            ratios.get(one.commit, ""),
        )
        for one in series.measured
    ]
    headings = ["commit", "measured, UTC", "processes", "median, ms", "× before"]
    return fitted(headings, rows, words=["commit"], width=width)


def _changes(found: Sequence[Series]) -> Iterator[str]:
    """Yield a line for every change, with the commits between which it happened, and the counts."""
    for series in found:
        for change in series.changes:
            yield (
                f"- {_point(series)}: {change.ratio:.3f} times as long from "
                f"{change.last_before[:SHORT]}..{change.first_after[:SHORT]} on (p = {change.p:g})"
            )
    yield f"{counted(len(found), 'point')}, {counted(sum(len(series.changes) for series in found), 'change')}"
