"""Records of a tuning run, and sweeps made of them, for tests of searches and studies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from records import TIMING, record

from moebench.autotune.search.recorded_sweep import MeasuredPair, RecordedSweep
from moebench.autotune.search.space import Space
from moebench.kernels.problem import Problem
from moebench.results.record import Point, Record, Status

PROBLEM = Problem(T=64, D=16, F=32, E=4, K=2)


def measured(batch: int, tile: int, samples_ns: Sequence[float] | None, **changes: Any) -> Record:
    """Return a record of the tuner; without samples it is that of a crash."""
    point = Point(
        suite="tune", question="?", axis="tokens T", series="", x=64, baseline="scatter", stage="search", batch=batch
    )
    fields: dict[str, Any] = {
        "point": point,
        "kernel": "scatter",
        "key": PROBLEM.key,
        "problem": dataclasses.asdict(PROBLEM),
        "config": {"tile": tile},
        "timing": None,
    }
    if samples_ns is None:
        fields |= {"status": Status.crashed, "reason": "it died"}
    else:
        fields["timing"] = TIMING.model_copy(update={"samples_ns": list(samples_ns)})
    return record(**fields | changes)


def ramp(count: int, failed: Sequence[int] = ()) -> RecordedSweep:
    """Return a sweep in which each configuration is a hundredth faster than the one before it."""
    own = [() if index in failed else (MeasuredPair([100.0 - index], [100.0]),) for index in range(count)]
    space = Space.among("scatter", [{"tile": index} for index in range(count)])
    return RecordedSweep(space=space, default=record(), pairs=tuple(own))
