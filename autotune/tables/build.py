"""Tuned tables derived from the records of a tuner."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...kernels.config import Config
from ...kernels.problem import Problem
from ...kernels.tuned.tuned_table import (
    ROBUST_LEAST,
    Bucket,
    Origin,
    TableEntry,
    TunedTable,
)
from ...results.record import Record
from ..search.stages import distinct
from .contest import (
    Contest,
    TablePlace,
    Word,
    configs_of,
    contests_of,
    groups_by_validity,
    passed_of,
)
from .decision import Decision, decide_one, decide_robustly


@dataclass(frozen=True)
class Derived:
    """Derived tables, and a sentence for everything that is in none of them."""

    tables: tuple[TunedTable, ...]
    left_out: tuple[str, ...]


def derive(*runs: Sequence[Record], origins: Sequence[Origin] = ()) -> Derived:
    """Derive one table for each kernel, its sources, device and versions; later measurements replace equal ones.

    Each run holds the records of one file: batches of the same number in two files were not measured together.
    """
    tables, left_out = [], []
    for group in groups_by_validity(runs).values():
        contests, reasons = contests_of(group)
        entries, more = _entries(contests)
        records = [record for run in group for record in run]
        left_out += [f"{records[0].kernel}: {reason}" for reason in [*reasons, *more]]
        if entries:
            tables.append(_table(records, origins, entries))
    return Derived(tuple(tables), tuple(left_out))


def winners(records: Sequence[Record]) -> list[Config]:
    """Return the configurations that beat the default for some number of tokens and load."""
    chosen = [
        entry.configs[bucket.chosen]
        for table in derive(records).tables
        for entry in table.entries
        for bucket in entry.buckets
        if bucket.verdict == "tuned"
    ]
    return list(distinct(chosen))


def _entries(contests: Mapping[TablePlace, Contest]) -> tuple[list[TableEntry], list[str]]:
    """Return entries of one load each and robust ones, by shape in order of appearance, and what is left out."""
    decisions: dict[tuple[Problem, tuple[str, ...]], list[Decision]] = defaultdict(list)
    left_out = []
    for shape, T in dict.fromkeys((place.shape, place.T) for place in contests):
        here = {place.load: contest for place, contest in contests.items() if (place.shape, place.T) == (shape, T)}
        compared = {load: contest for load, contest in here.items() if contest.of("final", "cross")}
        default = next((contest.default() for contest in compared.values()), None)
        if default is None:
            continue  # searched, and not yet compared; or held out
        times = {load: found for load, contest in compared.items() if default in (found := contest.times(default))}
        failed = sorted(compared.keys() - times.keys())
        left_out += [f"T = {T}, load {name}: the default failed, and nothing is compared with it" for name in failed]
        for name in times:
            if any(default in passed_of(batch) for batch in here[name].of("final")):
                decisions[shape, (name,)].append(decide_one(T, name, here[name], default, times))
        crossed = {name: here[name] for name in times if here[name].of("cross")}
        if len(crossed) >= ROBUST_LEAST:
            together = decide_robustly(T, default, {name: times[name] for name in crossed}, list(crossed.values()))
            decisions[shape, tuple(sorted(crossed))].append(together)
    configs = configs_of(record for contest in contests.values() for record in contest.records)
    return [_entry(shape, loads, found, configs) for (shape, loads), found in decisions.items()], left_out


def _entry(
    shape: Problem, loads: tuple[str, ...], decisions: Sequence[Decision], configs: Mapping[Word, Config]
) -> TableEntry:
    decisions = sorted(decisions, key=lambda decision: decision.T)
    words = list(dict.fromkeys(itertools.chain([decisions[0].default], *(decision.ns for decision in decisions))))
    number = {word: index for index, word in enumerate(words)}
    buckets = []
    for one in decisions:
        verdict: Literal["tuned", "tie"] = "tuned" if one.winner else "tie"
        times = [one.ns.get(word) for word in words]
        buckets.append(
            Bucket(
                T=one.T,
                default=number[one.default],
                chosen=number[one.winner or one.default],
                verdict=verdict,
                speedup=_rounded(one.speedup.value),
                interval=(_rounded(one.speedup.low), _rounded(one.speedup.high)),
                noise=_rounded(one.noise),
                trials=one.trials,
                median_ns=tuple(None if ns is None else _rounded(ns) for ns in times),
                regret={load: _rounded(regret) for load, regret in one.regret.items()},
            )
        )
    return TableEntry(shape=shape, loads=loads, configs=tuple(configs[word] for word in words), buckets=tuple(buckets))


def _table(records: Sequence[Record], origins: Sequence[Origin], entries: Sequence[TableEntry]) -> TunedTable:
    times = sorted(record.time for record in records)
    return TunedTable(
        kernel=records[0].kernel,
        source=records[0].source,
        cache="hot" if records[0].point.cache == "hot" else "cold",
        environment=records[0].environment.model_dump(),
        measured=(times[0], times[-1]),
        origins=tuple(origins),
        entries=tuple(entries),
    )


def _rounded(value: float) -> float:
    """Round to six digits; more would be noise in a file that people read."""
    return float(f"{value:.6g}")
