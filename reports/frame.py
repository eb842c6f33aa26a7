"""Data frames of a section, from which its plots are drawn: its trials, its predictions and its histories."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd

from ..results.record import Record
from ..results.regression.history import Series
from .columns import Value
from .measures import named
from .numbers import exact, plain
from .row import Row, leading, places
from .section import Section

PROBLEM: Final = ("T", "D", "F", "E", "K", "ranks", "capacity_factor", "load", "router", "block")
MEASURED: Final = (
    *("median_ms", "low_ms", "high_ms", "bound_ms", "tokens_per_s", "useful_tflop_per_s", "peak_mib", "energy_j"),
    "drop_rate",
)
OF_FAILED_TOO: Final = ("peak_mib", "energy_j")
"""Measures that a failed trial may have too, after its first call; only those of trials that passed are drawn."""
TEXT: Final[dict[str, Callable[[Row], object]]] = {
    "facet": lambda row: row.place.facet.title,
    "series": lambda row: row.place.facet.series,
    "dtype": lambda row: row.place.facet.dtype,
    "mode": lambda row: row.place.facet.mode,
    "detail": lambda row: row.place.facet.detail,
    "x": lambda row: row.place.x,
    "kernel": lambda row: row.kernel,
    "model": lambda row: row.record.point.model,
    "stage": lambda row: row.record.point.stage,
    "stages_ms": lambda row: _stages(row.record),
}
SEARCHED: Final[dict[str, Callable[[Row], object]]] = {
    "batch": lambda row: row.record.point.batch,
    "config": lambda row: row.config,
    "time": lambda row: row.record.time,
    "layer": lambda row: _layer(row.record),
}
"""What only plots of a search show."""
NUMBERS: Final[dict[str, Callable[[Row], float | None]]] = {
    "useful_flops": lambda row: row.record.work.useful_flops if row.record.work else None,
    "ideal_bytes": lambda row: row.record.work.ideal_bytes if row.record.work else None,
    "flops_per_s": lambda row: row.record.roofline.flops_per_s if row.record.roofline else None,
    "bytes_per_s": lambda row: row.record.roofline.bytes_per_s if row.record.roofline else None,
    "wall_s": lambda row: row.record.wall_s,
}
FLAGS: Final[dict[str, Callable[[Row], bool]]] = {
    "numeric": lambda row: row.place.numeric,
    "competes": lambda row: row.competes,
    "leads": lambda row: row.leads,
}


def section_frame(section: Section) -> pd.DataFrame:
    """Return one row for each trial of a section, in the order of its rows, with what plots show of it.

    ======================  ==========================================================================================
    record                  index of the trial's record in the report's records
    axis                    name of what is on the suite's axis
    facet, series, dtype,   the title of a panel, and its parts
    mode, detail
    place, x, numeric       order of the place in the section, where it is on the axis, and whether that is a number
    kernel                  name of the implementation
    competes, leads, best   whether it passed and is no reference; is fastest or tied; is the fastest configuration of
                            its kernel at its place, or a failure where none passed
    T D F E K, ranks,       fields of the problem, None where it has none
    capacity_factor, load,
    router, block
    model, stage            released model; part of a tuning run
    stages_ms               what a call did for how many ms, by name: its stages and `unattributed`, else, on several
                            ranks, `compute`, `communication` and `waiting` as means over the ranks; None elsewhere
    median_ms, low_ms and   measures by name; a share is a fraction, NaN where there is none
    others of `MEASURED`
    useful_flops,           work of one call
    ideal_bytes
    flops_per_s,            measured rates of the machine
    bytes_per_s
    wall_s                  duration of the whole trial
    batch, config, time,    of the trials of a search alone: batch, whole configuration as text, moment, and the problem
    layer                   but for its tokens as text
    ======================  ==========================================================================================
    """
    rows = section.rows
    grouped = places(rows)
    best = {id(row) for group in grouped.values() for row in leading(group).values()}
    order = {place: number for number, place in enumerate(grouped)}
    searched = any(row.record.point.stage for row in rows)
    text = TEXT | (SEARCHED if searched else {})
    values = {name: named(name).value for name in MEASURED}
    numbers = NUMBERS | {name: _of_passed(of) if name in OF_FAILED_TOO else of for name, of in values.items()}
    return pd.DataFrame(
        {
            "record": [section.index(row.record) for row in rows],
            "place": [order[row.place] for row in rows],
            "best": [id(row) in best for row in rows],
            "axis": _objects([section.axis] * len(rows)),
            # Text as plain objects: reading one text of an Arrow array takes a microsecond or more.
            **{name: _objects([of(row) for row in rows]) for name, of in text.items()},
            **{name: _objects([row.record.problem.get(name) for row in rows]) for name in PROBLEM},
            **{name: np.array([of(row) for row in rows], dtype=float) for name, of in numbers.items()},
            **{name: np.array([of(row) for row in rows], dtype=bool) for name, of in FLAGS.items()},
        }
    )


def _of_passed(value: Callable[[Row], Value]) -> Callable[[Row], Value]:
    return lambda row: value(row) if row.median else None


def _objects(values: Sequence[object]) -> pd.Series:
    return pd.Series(values, dtype=object)


def prediction_frame(section: Section) -> pd.DataFrame:
    """Return one row for each prediction that continues a facet of a section and has a time.

    Its columns are facet, kernel, ranks, ms and machine, all names printable.
    """
    lines = [
        {
            "facet": facet.title,
            "kernel": plain(one.dispatcher),
            "ranks": one.ranks,
            "ms": 1e3 * one.expected.seconds,
            "machine": plain(one.machine),
        }
        for facet in section.facets
        for one in section.predicted(facet)
        if one.expected
    ]
    return pd.DataFrame(lines, columns=["facet", "kernel", "ranks", "ms", "machine"])


def history_frame(series: Sequence[Series]) -> pd.DataFrame:
    """Return one row for each commit of each history: what was measured, and what is noise around it.

    Its columns are point (the line and the place), kernel, config, order (of the commit in time, the same for all),
    commit, time, ms, processes, bound_ms (the lower bound, NaN where it is not known), low and high (the noise band,
    see `noise_band`), and ratio, the time after over before where a change begins, else NaN.
    """
    commits = sorted({(one.time, one.commit) for found in series for one in found.measured})
    place = {commit: number for number, commit in enumerate(dict.fromkeys(commit for _, commit in commits))}
    lines = []
    for found in series:
        ratios = {change.first_after: change.ratio for change in found.changes}
        times = [one.ns / 1e6 for one in found.measured]
        edges = [number for number, one in enumerate(found.measured) if one.commit in ratios]
        bands = noise_band(times, edges)
        lines += [
            {
                "point": plain(f"{found.key.series}, {exact(found.key.x)}"),
                "kernel": plain(found.key.kernel),
                "config": plain(found.key.config),
                "order": place[one.commit],
                "commit": plain(one.commit),
                "time": plain(one.time),
                "ms": ms,
                "processes": one.processes,
                "bound_ms": math.nan if one.bound_ns is None else one.bound_ns / 1e6,
                "low": low,
                "high": high,
                "ratio": ratios.get(one.commit, math.nan),
            }
            for one, ms, (low, high) in zip(found.measured, times, bands, strict=True)
        ]
    return pd.DataFrame(lines)


def noise_band(times: Sequence[float], edges: Sequence[int]) -> list[tuple[float, float]]:
    """Return for each time the ends of the noise around its level, which is the median between two changes.

    They are two standard deviations away, estimated by 1.4826 times the median absolute deviation (Rousseeuw and Croux
    1993). ``edges`` are the first indices after the changes.
    """
    bounds = [0, *edges, len(times)]
    found: list[tuple[float, float]] = []
    for start, stop in pairwise(bounds):
        level = statistics.median(times[start:stop]) if stop > start else 0.0
        around = 2 * 1.4826 * statistics.median(abs(time - level) for time in times[start:stop]) if stop > start else 0
        found += [(level - around, level + around)] * (stop - start)
    return found


def _layer(record: Record) -> str:
    return plain(" · ".join(f"{name}={value}" for name, value in record.problem.items() if name not in ("T", "seed")))


def _stages(record: Record) -> dict[str, float] | None:
    """Return what a call did for how many ms: its stages and the rest, else what its ranks did on the average."""
    if record.stages:
        named = {str(name): time / 1e6 for name, time in record.stages.stages_ns.items()}
        return named | {"unattributed": record.stages.unattributed_ns / 1e6}
    if phases := record.phases:
        parts = {
            "compute": phases.compute_ns,
            "communication": phases.communication_ns,
            "waiting": phases.waiting_ns,
        }
        return {name: sum(times) / len(times) / 1e6 for name, times in parts.items() if times}
    return None
