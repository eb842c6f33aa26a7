"""Records as a table of plain numbers, for a notebook or a spreadsheet."""

from __future__ import annotations

import pandas as pd

from ..measures import values
from ..report import Report
from ..row import Row

OWN = ("suite", "series", "x")  # columns of ours that a field of a problem cannot replace


def frame(report: Report) -> pd.DataFrame:
    """Return one row for each trial, the latest of repeated ones: its place, problem, outcome and every measure.

    Units are in the names of the columns; shares are fractions. A measure is missing where a trial did not pass.
    """
    return pd.DataFrame(
        [_trial(row) | {"device": section.machine.label} for section in report.sections for row in section.rows]
    )


def _trial(row: Row) -> dict[str, object]:
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
