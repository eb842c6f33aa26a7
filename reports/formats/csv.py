"""Comma-separated values: one line for each trial, for a spreadsheet."""

from __future__ import annotations

from pathlib import Path

from ..report import Report, ReportFormat
from ._frame import frame


def _write(report: Report, path: Path) -> None:
    frame(report).to_csv(path, index=False)


report_format = ReportFormat(suffix=".csv", write=_write)
