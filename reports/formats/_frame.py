"""Records as a table of plain numbers, for a notebook or a spreadsheet."""

from __future__ import annotations

import pandas as pd

from ..measures import values
from ..report import Report
from ..row import Row

PLACE = ("suite", "series", "x")


def frame(report: Report) -> pd.DataFrame:
    """Return one row for each trial, the latest of repeated ones: its place, problem, outcome and every measure.

    Units are in the names of the columns; shares are fractions. A measure is missing where a trial did not pass.
    """
    return pd.DataFrame(
        [_line(row) | {"device": section.machine.label} for section in report.sections for row in section.rows]
    )


def _line(row: Row) -> dict[str, object]:
    record = row.record
    return {
        "suite": record.point.suite,
        "series": record.point.line,
        "x": str(record.point.x),
        **{name: value for name, value in record.problem.items() if name not in PLACE},
        "kernel": record.kernel,
        "family": record.family,
        "status": record.status.value,
        "reason": record.reason,
        **values(row),
        "commit": record.commit,
        "time": record.time,
    }
