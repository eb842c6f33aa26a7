"""Records as a table of plain numbers, for a notebook or a spreadsheet."""

from __future__ import annotations

import pandas as pd

from ..frame import trial
from ..report import Report


def frame(report: Report) -> pd.DataFrame:
    """Return one row for each trial, the latest of repeated ones: its place, problem, outcome and every measure.

    Units are in the names of the columns; shares are fractions. A measure is missing where a trial did not pass.
    """
    return pd.DataFrame(
        [trial(row) | {"device": section.machine.label} for section in report.sections for row in section.rows]
    )
