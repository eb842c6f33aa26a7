"""Records of tuner runs, for tests of tuned tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from records import record

from moebench.autotune.tables.build import derive
from moebench.kernels.problem import Problem
from moebench.kernels.tuned.tuned_table import TunedTable
from moebench.results.record import Point, Record, Stage, Status, Timing

PROBLEM = Problem(T=64, D=32, F=64, E=4, K=2)
A, B, C, D = ({"tile": tile} for tile in (512, 128, 256, 64))
SKEWED = "zipf:1.2"


def batch(
    stage: Stage,
    T: int,
    times: Sequence[tuple[Mapping[str, Any], float]],
    load: str = "uniform",
    number: int = 1,
    **more: Any,
) -> list[Record]:
    """Return records measured together; a time that is NaN is a failure."""
    problem = PROBLEM.replace(T=T, load=load)
    point = Point(
        suite="tune",
        question="?",
        axis="tokens T",
        series="",
        x=T,
        baseline="scatter",
        cache=more.pop("cache", "cold"),
        stage=stage,
        batch=number,
    )
    fields: dict[str, Any] = {"point": point, "key": problem.key, "problem": dataclasses.asdict(problem)}
    fields |= {"kernel": "scatter", "source": "abc", **more}
    failed = {"status": Status.crashed, "reason": "it died", "timing": None}
    return [
        record(T, **fields, config=config, **({"timing": timing(ns)} if not math.isnan(ns) else failed))
        for config, ns in times
    ]


def timing(median_ns: float) -> Timing:
    """Return twenty samples with a small spread around the median."""
    samples = [median_ns * (1 + 0.001 * (number - 9.5)) for number in range(20)]
    return Timing(clock="perf_counter", cache="cold", samples_ns=samples, stopped="settled")


def tuned_run() -> list[Record]:
    """Return records in which B wins at 64 tokens and nothing at 256; both are compared under a skewed load too."""
    return [
        *batch("search", 64, [(A, 100), (B, 79), (D, math.nan)]),
        *batch("final", 64, [(A, 100), (A, 100.5), (B, 80), (C, 90)]),
        *batch("final", 256, [(A, 400), (A, 401), (C, 398)]),
        *batch("cross", 64, [(A, 101), (A, 101), (B, 81), (C, 90)]),
        *batch("cross", 256, [(A, 400), (A, 401), (B, 500), (C, 399)]),
        *batch("cross", 64, [(A, 120), (A, 120), (B, 150), (C, 115)], SKEWED),
        *batch("cross", 256, [(A, 500), (A, 500), (B, 700), (C, 520)], SKEWED),
    ]


def only(records: Sequence[Record]) -> TunedTable:
    """Return the only table that the records give."""
    derived = derive(records)
    assert derived.left_out == ()
    (table,) = derived.tables
    return table
