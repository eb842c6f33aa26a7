"""Gaps of records: what some of them lack that others have, and kernels that are not known here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from ...results.record import Record, Status
from ..numbers import counted, plain

NAMED: Final = 5  # names in a sentence; more would be a list

LACKING: Final[Sequence[tuple[Callable[[Record], bool], str]]] = (
    (lambda record: record.roofline is None, "no measured rates of the machine, so no lower bound and no share of it"),
    (lambda record: record.work is None, "no FLOPs and bytes, so no rates and no lower bound"),
    (lambda record: record.memory is None, "no memory"),
    (lambda record: not record.errors, "no distance from the reference"),
    (lambda record: bool(record.sent_before_traffic) and record.traffic is None, "only a sum of the bytes they sent"),
    (
        lambda record: any(not isinstance(record.problem.get(letter), int) for letter in "TDFEK"),
        "not all sizes of the layer (T, D, F, E, K)",
    ),
    (lambda record: not (record.problem.get("dtype") and record.problem.get("mode")), "no dtype or no mode"),
)
"""What is looked for in records that passed, and what they then have."""


def gaps(records: Sequence[Record], known_kernels: Collection[str] | None = None) -> list[str]:
    """Return sentences about records that are shown with less than others, those of earlier schemas for example.

    ``known_kernels`` are the implementations that there are, None where that is not known.
    """
    passed = [record for record in records if record.status is Status.passed]
    found = []
    for lacks, words in LACKING:
        if which := [record for record in passed if lacks(record)]:
            suites = _names(record.point.suite for record in which)
            found.append(f"{counted(len(which), 'record')} in {suites} {_has(which)} {words}.")
    if known_kernels is not None and (unknown := [record for record in records if record.kernel not in known_kernels]):
        named = _names(record.kernel for record in unknown)
        verb = "is of a kernel" if len(unknown) == 1 else "are of kernels"
        found.append(f"{counted(len(unknown), 'record')} {verb} that this moebench does not have: {named}.")
    return found


def _has(records: Sequence[Record]) -> str:
    return "has" if len(records) == 1 else "have"


def _names(names: Iterable[str]) -> str:
    several = list(dict.fromkeys(plain(name, 60) for name in names))
    more = f" and {len(several) - NAMED} more" if len(several) > NAMED else ""
    return ", ".join(several[:NAMED]) + more
