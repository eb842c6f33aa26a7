"""Records as a table of plain numbers, for a notebook or a spreadsheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..results.record import Record
from .section import sections
from .table import Row


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each trial, the latest of repeated ones: its place, problem, outcome and derived quantities.

    Times in ms, memory and traffic in MiB, rates in TFLOP/s; missing where a trial did not pass.
    """
    return pd.DataFrame([_line(row) | {"device": s.machine.label} for s in sections(records) for row in s.rows])


def write_frame(records: Sequence[Record], path: Path) -> Path:
    """Write the frame as CSV or, for ``.parquet``, as Parquet.

    Raises:
        ImportError: for Parquet without pyarrow, naming the extra.
    """
    if path.suffix == ".parquet":
        frame(records).to_parquet(path)
    else:
        frame(records).to_csv(path, index=False)
    return path


def _line(row: Row) -> dict[str, object]:
    record, median = row.record, row.median
    return {
        "suite": record.point.suite,
        "series": record.point.line,
        "x": str(record.point.x),
        **record.problem,
        "kernel": record.kernel,
        "family": record.family,
        "config": row.config,
        "status": record.status.value,
        "reason": record.reason,
        "median_ms": median.value if median else None,
        "low_ms": median.low if median else None,
        "high_ms": median.high if median else None,
        "spread": row.spread,
        "bound_ms": row.bound,
        "share_of_bound": row.share,
        "tokens_per_s": row.tokens_per_s,
        "useful_tflop_per_s": row.tflops,
        "padding": row.padding,
        "drop_rate": row.drop_rate,
        "peak_mib": row.peak,
        "saved_mib": row.saved,
        "sent_mib": row.sent,
        "kernel_launches": sum(record.launches.kernels.values()) if record.launches else None,
        "torch_operators": sum(record.launches.operators.values()) if record.launches else None,
        "host_waits": record.launches.host_waits if record.launches else None,
        "energy_j": row.energy,
        "commit": record.commit,
        "time": record.time,
    }
