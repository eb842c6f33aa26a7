"""The page: one HTML file without scripts or outside resources."""

from __future__ import annotations

from pathlib import Path

from ...common.files import write_whole
from ..page import Page, environment
from ..report import Report, ReportFormat


def _write(report: Report, path: Path) -> None:
    write_whole(path, environment().get_template("report.html.j2").render(page=Page(report)))


report_format = ReportFormat(suffix=".html", write=_write)
