"""Study of tuned entries under other loads: what the uniform one loses, and what the one chosen by observation loses.

    python studies/load_regret.py [RECORDS...]     by default results/recorded/cpu-tuned.jsonl

RECORDS are of `moebench tune` with --other-load, or with --load for each of some loads. At each of their places under a
load that is not uniform, a layer's observation of drawn calls names the tuned load that it takes for that of its own.
A file of recorded routes is read where the records say that it lies.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from moebench.autotune.tables.build import derive
from moebench.autotune.tables.contest import (
    Contest,
    TablePlace,
    configs_of,
    contests_of,
    groups_by_validity,
    validity_of_table,
    word_of,
)
from moebench.autotune.tables.held_out import look_up_at
from moebench.kernels.module.observed_load import EVERY, ObservedLoad
from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.tuned.lookup import Found, nearest_tuned
from moebench.kernels.tuned.tuned_table import TunedTable
from moebench.reports.tables.text_table import markdown
from moebench.results.record import Record
from moebench.results.record.store import load_all

RECORDED = Path(__file__).parents[1] / "results" / "recorded" / "cpu-tuned.jsonl"
CPU = torch.device("cpu")
UNIFORM = "uniform"


@dataclass(frozen=True, kw_only=True)
class LoadRegret:
    """The share of the best time measured at a place by which configurations are slower.

    ``uniform`` is that of the entry for the uniform load, ``observed`` that of the entry for the load ``taken``, which
    is the nearest to what a layer sees, ``seen``.
    """

    kernel: str
    place: TablePlace
    seen: str
    taken: str
    default: float
    uniform: float
    observed: float


def observed_load(problem: Problem) -> str:
    """Return what a layer has observed after calls with routes of a problem."""
    observed, seed = ObservedLoad(problem.E), 0
    while observed.load is None:
        routing = draw_routes(problem, seed=seed, device=CPU)
        for _ in range(EVERY):  # of which one is counted
            observed.of_call(routing)
        seed += 1
    return observed.load


def load_regrets(records: Sequence[Record]) -> list[LoadRegret]:
    """Return the regrets at each place that has a load other than uniform and a uniform entry, in order."""
    tables, found = derive(records).tables, []
    for validity, group in groups_by_validity([records]).items():
        valid = [table for table in tables if validity_of_table(table) == validity]
        for place, contest in contests_of(group)[0].items():
            regret = _regret(place, contest, valid) if place.load != UNIFORM else None
            found += [regret] if regret is not None else []
    return found


def _regret(place: TablePlace, contest: Contest, tables: Sequence[TunedTable]) -> LoadRegret | None:
    default = contest.default()
    times = contest.times(default) if default is not None else {}
    if default is None or default not in times:
        return None
    entries = [entry for table in tables for entry in table.entries if entry.shape == place.shape]
    tuned = sorted({load for entry in entries for load in entry.loads})
    problem = Problem(**contest.records[0].problem)  # type: ignore[arg-type]  # checked in it
    seen = observed_load(problem)
    taken = seen if seen in tuned else nearest_tuned(problem.replace(load=seen), tuned)
    configs = [configs_of(contest.records)[default], *(config for entry in entries for config in entry.configs)]
    best = min(timed.ns for timed in times.values())

    def regret(load: str) -> float | None:
        answer = look_up_at(tables, place._replace(load=load), configs)
        timed = times.get(word_of(answer.config)) if isinstance(answer, Found) else None
        return None if timed is None else timed.ns / best - 1

    uniform, observed = regret(UNIFORM), regret(taken) if taken is not None else None
    if uniform is None or observed is None or taken is None:
        return None
    return LoadRegret(
        kernel=contest.records[0].kernel,
        place=place,
        seen=seen,
        taken=taken,
        default=times[default].ns / best - 1,
        uniform=uniform,
        observed=observed,
    )


def report(found: Sequence[LoadRegret]) -> Iterator[str]:
    """Yield a Markdown table and its worst row."""
    columns = ["kernel", "shape", "T", "load", "seen as", "entry for", "default", "uniform entry", "observed entry"]
    rows = [
        [
            one.kernel,
            f"D={one.place.shape.D} F={one.place.shape.F} E={one.place.shape.E} K={one.place.shape.K}",
            f"{one.place.T}",
            one.place.load,
            one.seen,
            one.taken,
            *(f"{100 * regret:.1f} %" for regret in (one.default, one.uniform, one.observed)),
        ]
        for one in found
    ]
    yield markdown(columns, rows, words=["kernel", "shape", "load", "seen as", "entry for"])
    worst = [max(getattr(one, name) for one in found) for name in ("uniform", "observed")]
    yield f"worst regret: {100 * worst[0]:.1f} % with the uniform entry, {100 * worst[1]:.1f} % by observation"


def main(arguments: Sequence[str]) -> None:
    """Print the regrets in files of records."""
    for path in map(Path, arguments or [str(RECORDED)]):
        found = load_regrets(load_all([path]).records)
        if not found:
            sys.exit(f"{path}: nothing was tuned for one load and measured under another; `moebench tune` does both")
        sys.stdout.write("\n\n".join((path.name, *report(found))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
