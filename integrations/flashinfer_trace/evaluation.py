"""Evaluations: what a record says, in the words of FlashInfer-Trace, and nothing that it does not say.

The schema is that of flashinfer-ai/flashinfer-bench, commit 40e6ca7, `flashinfer_bench/data/trace.py`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any, Final

from ...results.record import Environment, Record, Status

STATUSES: Final[Mapping[Status, str]] = {
    Status.passed: "PASSED",
    Status.wrong: "INCORRECT_NUMERICAL",
    Status.uncompilable: "COMPILE_ERROR",
    Status.out_of_memory: "RUNTIME_ERROR",
    Status.crashed: "RUNTIME_ERROR",
    Status.timeout: "TIMEOUT",
}
"""Statuses of records of which the schema has one. The others are no evaluation of a solution: the problem or the
configuration was refused, or the machine had no number to give."""
NOT_MEASURED: Final = "NaN"
"""An error that is not known; absent it would be read as 0. The schema writes numbers that JSON lacks as text."""
MEASURE: Final = (
    "moebench compares with a float64 reference row by row: max_relative_error is the largest norm of a row's error "
    "over the norm of the row. max_absolute_error was not measured."
)


def evaluation_of(record: Record) -> dict[str, Any] | None:
    """Return the evaluation of a record, or None where its status is no evaluation.

    Latencies are medians in milliseconds. That of the reference is left out: no record is of its code.
    """
    if record.status not in STATUSES:
        return None
    found: dict[str, Any] = {
        "status": STATUSES[record.status],
        "environment": {"hardware": record.environment.device or "unknown", "libs": _libs(record.environment)},
        "timestamp": record.time or "unknown",
        "log": record.reason,
    }
    if record.status in (Status.passed, Status.wrong):
        found["correctness"] = _correctness(record)
    if record.timing is not None:
        timing = record.timing
        found["performance"] = {"latency_ms": statistics.median(timing.samples_ns) / 1e6}
        found["log"] = f"median of {len(timing.samples_ns)} samples by {timing.clock}, caches {timing.caches}"
    return found


def _correctness(record: Record) -> dict[str, Any]:
    output = record.errors.get("y")
    return {
        "max_relative_error": NOT_MEASURED if output is None else _number(output.worst_row),
        "max_absolute_error": NOT_MEASURED,
        "extra": {"measure": MEASURE} | ({} if output is None else {"relative_error_norm": _number(output.norm)}),
    }


def _number(error: float) -> float | str:
    if math.isfinite(error):
        return abs(error)
    return NOT_MEASURED if math.isnan(error) else "Infinity"


def _libs(environment: Environment) -> dict[str, str]:
    names = ("torch", "triton", "cuda", "cupy", "driver", "python", "moebench")
    return {name: version for name in names if (version := getattr(environment, name))}
