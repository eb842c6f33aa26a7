"""The page: one HTML file that needs nothing else, alive where scripts run and whole where they do not."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from ...common.files import write_whole
from ..page import Page, environment
from ..report import Report, ReportFormat
from ..web.cells import cells, folded
from ..web.html_page import HtmlPage


def _write(report: Report, path: Path) -> None:
    page = Page(report)
    html = HtmlPage(page)
    _ = html.views, html.embedded  # processes begin to draw; what needs no drawing is made meanwhile
    engine, shown = environment(), {"page": page, "html": html, "folded": folded, "cells": cells}
    body = engine.get_template("report_body.html.j2").render(shown)  # first: the head holds the styles of its drawings
    write_whole(path, engine.get_template("report.html.j2").render(shown, body=Markup(body)))  # noqa: S704  # escaped


report_format = ReportFormat(suffix=".html", write=_write)
