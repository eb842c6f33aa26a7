"""The page: one HTML file that needs nothing else, alive where scripts run and whole where they do not."""

from __future__ import annotations

from pathlib import Path

from ...common.files import write_whole
from ..page import Page, environment
from ..report import Report, ReportFormat
from ..web.cells import cells, folded
from ..web.html_page import HtmlPage


def _write(report: Report, path: Path) -> None:
    page = Page(report)
    template = environment().get_template("report.html.j2")
    write_whole(path, template.render(page=page, html=HtmlPage(page), folded=folded, cells=cells))


report_format = ReportFormat(suffix=".html", write=_write)
