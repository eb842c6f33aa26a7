"""Comma-separated values: one line for each trial, for a spreadsheet."""

from __future__ import annotations

from pathlib import Path

from ...common.files import write_whole
from ..report import Report, ReportFormat
from ._frame import frame


def _write(report: Report, path: Path) -> None:
    write_whole(path, frame(report).to_csv(index=False))


report_format = ReportFormat(suffix=".csv", write=_write)
