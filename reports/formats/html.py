"""The page: one HTML file without scripts or outside resources."""

from __future__ import annotations

from pathlib import Path

from ..page import Page, environment
from ..report import Report, ReportFormat


def _write(report: Report, path: Path) -> None:
    path.write_text(environment().get_template("report.html.j2").render(page=Page(report)), encoding="utf-8")


report_format = ReportFormat(suffix=".html", write=_write)
