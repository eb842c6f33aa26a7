"""Look-ups that are tested: their regret for numbers of tokens that no bucket is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...kernels.config import Config
from ...kernels.problem import Problem
from ...kernels.problem.trace import label
from ...kernels.tuned.lookup import Found, NotCovered, answer
from ...kernels.tuned.tuned_table import (
    TunedTable,
    shape_of,
)
from ...results.record import Record
from .contest import (
    Contest,
    TablePlace,
    configs_of,
    contests_of,
    groups_by_validity,
    validity_of_table,
    word_of,
)


@dataclass(frozen=True)
class HeldOut:
    """The regret of a look-up for a number of tokens without a bucket.

    ``regret`` is the time of the configuration found over that of the fastest measured there, minus 1. It is None where
    one of the two is missing, for the reason in ``why``.
    """

    kernel: str
    place: TablePlace
    config: Config | None
    regret: float | None
    why: str


def look_up_in(tables: Sequence[TunedTable], problem: Problem, configs: Sequence[Config]) -> Found | NotCovered:
    """Look a problem up in tables among ``configs``, the default first; where the tables are valid does not matter."""
    return look_up_at(tables, TablePlace(shape_of(problem), problem.T, label(problem.load)), configs)


def held_out(records: Sequence[Record], tables: Sequence[TunedTable]) -> list[HeldOut]:
    """Return the regret of the look-up at each held-out place, in the order of the records.

    The table is one of the same kernel, sources, device and versions.
    """
    found = []
    for validity, group in groups_by_validity([records]).items():
        valid = [table for table in tables if validity_of_table(table) == validity]
        found += [
            _regret(place, contest, valid) for place, contest in contests_of(group)[0].items() if contest.of("held-out")
        ]
    return found


def look_up_at(tables: Sequence[TunedTable], place: TablePlace, configs: Sequence[Config]) -> Found | NotCovered:
    entries = [entry for table in tables for entry in table.entries if entry.shape == place.shape]
    fitting = [entry for entry in entries if entry.robust or entry.loads == (place.load,)]
    if not fitting:
        return NotCovered(f"there is no table of this shape for load {place.load}")
    nearest = min(fitting, key=lambda entry: (entry.robust, place.load not in entry.loads))
    return answer(nearest, place.T, configs[0], lambda config: config if config in configs else None)


def _regret(place: TablePlace, contest: Contest, tables: Sequence[TunedTable]) -> HeldOut:
    kernel, default = contest.records[0].kernel, contest.default()
    times = contest.times(default) if default is not None else {}
    if default is None or default not in times:
        return HeldOut(kernel, place, None, None, "the default has no time")
    tabled = [config for table in tables for entry in table.entries for config in entry.configs]
    configs = [configs_of(contest.records)[default], *tabled]
    found = look_up_at(tables, place, configs)
    if isinstance(found, NotCovered):
        return HeldOut(kernel, place, None, None, found.reason)
    timed = times.get(word_of(found.config))
    if timed is None:
        return HeldOut(kernel, place, found.config, None, f"{found.why}, but it has no time")
    return HeldOut(kernel, place, found.config, timed.ns / min(one.ns for one in times.values()) - 1, found.why)
