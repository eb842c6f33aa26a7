"""Markdown, with the plots of each suite in the folder NAME_plots beside it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from ...common.files import write_whole
from ..page import Page, View, environment
from ..plots.drawing import Drawing
from ..report import Report, ReportFormat
from ..tables.text_table import escaped


def _write(report: Report, path: Path) -> None:
    page = Page(report)
    folder = path.with_name(f"{path.stem}_plots")
    links = {view.order: _drawn(view, folder) for view in page.views}
    template = environment(finalize=as_markdown).get_template("report.md.j2")
    write_whole(path, template.render(page=page, links=links, as_code=Markup))


def _drawn(view: View, folder: Path) -> list[tuple[Drawing, Markup]]:
    """Draw a section and return its drawings with the links to their files; of the main plot, only the time."""
    if not view.drawings:
        return []
    from ..plots.sheet import sheet  # without matplotlib there are no drawings  # noqa: PLC0415

    found: list[tuple[Drawing, Markup]] = []
    for drawing in view.drawings:
        if any(drawing.measure and drawing.name == earlier.name for earlier, _ in found):
            continue
        file = folder / f"{view.order}-{drawing.name}.svg"
        write_whole(file, sheet(drawing, view.styles))
        found.append((drawing, Markup(quote(f"{folder.name}/{file.name}"))))  # noqa: S704  # percent-encoded
    return found


def as_markdown(value: object) -> object:
    """Escape the text that the template writes, unless it is Markdown already."""
    return value if not isinstance(value, str) or isinstance(value, Markup) else Markup(escaped(value))  # noqa: S704  # escaped


report_format = ReportFormat(suffix=".md", write=_write)
