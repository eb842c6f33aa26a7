"""Verdicts of a comparison as a Markdown table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from ...results.record.identity import Identity
from ...results.regression.verdicts import Verdict
from ..numbers import MISSING, exact, number, plain
from .stacked_table import fitted
from .text_table import escaped

HEADINGS: Final = ("verdict", "point", "kernel", "old, ms", "new, ms", "ratio", "95 % interval", "processes", "why")
WORDS: Final = ("verdict", "point", "kernel", "why")
REASON: Final = 120  # characters of a reason in the table; JSON has them all


def verdict_table(verdicts: Sequence[Verdict], width: int | None = None) -> str:
    """Return one row for each verdict, in the order given, no line longer than ``width``.

    Text from records is escaped where the table is Markdown.
    """
    problems: dict[Identity, set[str]] = defaultdict(set)
    for verdict in verdicts:
        problems[_place(verdict)].add(verdict.key.problem)
    rows = [_row(verdict, ambiguous=len(problems[_place(verdict)]) > 1) for verdict in verdicts]
    return fitted(HEADINGS, [list(map(plain, row)) for row in rows], words=WORDS, width=width, cell=escaped)


def _place(verdict: Verdict) -> Identity:
    return verdict.key.only("suite", "series", "x")


def _row(verdict: Verdict, *, ambiguous: bool) -> Iterable[str]:
    """Return the cells of a verdict; where a place is ambiguous, it has several problems and they are named."""
    key, ratio = verdict.key, verdict.ratio
    place = f"{key.suite}: {key.series}, {exact(key.x)}"
    return (
        verdict.status.value,
        f"{place} ({key.problem})" if ambiguous else place,
        f"{key.kernel} {key.config}",
        *(MISSING if ns is None else number(ns / 1e6) for ns in (verdict.old_ns, verdict.new_ns)),
        f"{ratio.value:.3f}" if ratio else MISSING,
        f"{ratio.low:.3f} to {ratio.high:.3f}" if ratio else MISSING,
        " + ".join(map(str, verdict.processes)) if ratio else MISSING,
        plain(verdict.reason, REASON),
    )
