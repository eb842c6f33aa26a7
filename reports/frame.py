"""The trials of a section as a data frame: what plots are drawn from, and what files of tables hold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import pandas as pd

from ..results.record import Record
from ..results.regression.history import Series
from .measures import values
from .numbers import exact, plain
from .row import Row, leading, places
from .section import Section

OWN: Final = ("suite", "series", "x")
LETTERS: Final = ("T", "D", "F", "E", "K")


def section_frame(section: Section) -> pd.DataFrame:
    """Return one row for each trial of a section, in the order of its rows.

    ======================  ==========================================================================================
    record                  index of the trial's record in the report's records
    suite, axis             names of the suite and of what is on its axis
    facet, series, dtype,   the title of a panel, and its parts
    mode, detail
    place, x, numeric       order of the place in the section, where it is on the axis, and whether that is a number
    kernel, family          names of the implementation and its family
    status, rank            how the trial ended, and how it compares at its place, as words
    competes, leads, best   whether it passed and is no reference; is fastest or tied; is the fastest configuration of
                            its kernel at its place, or a failure where none passed
    T D F E K G             sizes of the problem; the granularity where it is on the axis
    any other field of the  such as capacity_factor, load, router, ranks; `max_over_mean` is the skew
    problem
    layer                   the problem but for its tokens, as text
    model, stage, batch     released model; part and batch of a tuning run
    config                  the whole configuration as text
    median_ms and every     a share is a fraction; a missing value is None or NaN
    other measure by name
    useful_flops,           work of one call
    executed_flops,
    ideal_bytes
    flops_per_s,            measured rates of the machine
    bytes_per_s
    stages_ms               what a call did for how many ms, by name: its stages and `unattributed`, else, on several
                            ranks, `compute`, `communication` and `waiting` as means over the ranks; None elsewhere
    wall_s, commit, time    duration of the whole trial; source and moment of the measurement
    ======================  ==========================================================================================
    """
    best = {id(row) for rows in places(section.rows).values() for row in leading(rows).values()}
    order = {place: number for number, place in enumerate(places(section.rows))}
    lines = [
        trial(row)
        | _shown(row, section)
        | {"record": section.index(row.record), "place": order[row.place], "best": id(row) in best}
        for row in section.rows
    ]
    frame = pd.DataFrame(lines)
    # Text as plain objects: reading one text of an Arrow array takes a microsecond or more.
    return frame.astype({name: object for name in frame.columns if pd.api.types.is_string_dtype(frame[name])})


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


def trial(row: Row) -> dict[str, object]:
    """Return the place, problem, outcome and every measure of a trial; text is as the record has it."""
    record = row.record
    return {
        "suite": record.point.suite,
        "series": record.point.line,
        "x": str(record.point.x),
        **{name: value for name, value in record.problem.items() if name not in OWN},
        "kernel": record.kernel,
        "family": record.family,
        "status": record.status.value,
        "reason": record.reason,
        **values(row),
        "commit": record.commit,
        "time": record.time,
    }


def _shown(row: Row, section: Section) -> dict[str, object]:
    """Return what plots need beyond that, and with the text of names made printable."""
    record, facet = row.record, row.place.facet
    work, roofline = record.work, record.roofline
    return {
        **{letter: record.problem.get(letter) for letter in LETTERS},
        "G": row.place.x if row.place.numeric and section.axis.split()[-1:] == ["G"] else None,
        "axis": section.axis,
        "facet": facet.title,
        "series": facet.series,
        "dtype": facet.dtype,
        "mode": facet.mode,
        "detail": facet.detail,
        "x": row.place.x,
        "numeric": row.place.numeric,
        "kernel": row.kernel,
        "rank": row.rank.value,
        "competes": row.competes,
        "leads": row.leads,
        "layer": plain(
            " · ".join(f"{name}={value}" for name, value in record.problem.items() if name not in ("T", "seed"))
        ),
        "model": record.point.model,
        "stage": record.point.stage,
        "batch": record.point.batch,
        "useful_flops": work.useful_flops if work else None,
        "executed_flops": work.executed_flops if work else None,
        "ideal_bytes": work.ideal_bytes if work else None,
        "flops_per_s": roofline.flops_per_s if roofline else None,
        "bytes_per_s": roofline.bytes_per_s if roofline else None,
        "stages_ms": _stages(record),
        "wall_s": record.wall_s,
    }


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
