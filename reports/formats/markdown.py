"""Markdown, with the plot of each suite in the folder NAME_plots beside it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from ...common.files import write_whole
from ..page import Page, View, environment
from ..plots.plot import sheet
from ..report import Report, ReportFormat
from ..tables.text_table import escaped


def _write(report: Report, path: Path) -> None:
    page = Page(report)
    folder = path.with_name(f"{path.stem}_plots")
    links = {view.order: link for view in page.views if (link := _drawn(view, folder))}
    template = environment(finalize=_as_markdown).get_template("report.md.j2")
    write_whole(path, template.render(page=page, links=links))


def _drawn(view: View, folder: Path) -> Markup | None:
    """Draw a section and return the link to its file, or None where there is nothing to draw."""
    svg = sheet(view.section, view.styles)
    if svg is None:
        return None
    file = folder / f"{view.order}.svg"
    write_whole(file, svg)
    return Markup(quote(f"{folder.name}/{file.name}"))  # noqa: S704  # percent-encoded


def _as_markdown(value: object) -> object:
    """Escape the text that the template writes, unless it is Markdown already."""
    return value if not isinstance(value, str) or isinstance(value, Markup) else Markup(escaped(value))  # noqa: S704  # escaped


report_format = ReportFormat(suffix=".md", write=_write)
