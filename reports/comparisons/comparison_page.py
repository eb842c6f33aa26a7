"""Pages of a comparison: HTML and Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import quote

from markupsafe import Markup

from ...common.files import write_whole
from ...results.record.file_content import FileContent, refuse_to_replace
from ..formats.markdown import as_markdown
from ..page import environment
from ..plots.drawing import Drawing
from ..plots.inlined import PlotStyles
from ..plots.sheet import sheet
from ..report import ReportError
from ..web.cells import folded
from ..web.content_policy import policy, script, stylesheet
from ..web.embedded import embedded
from .compared_samples import compared_drawings
from .comparison import SideBySide

SUFFIXES: Final = (".html", ".md")


def refuse_other_formats(path: Path) -> None:
    """Refuse a file whose suffix is that of no page.

    Raises:
        ReportError: naming the suffixes of pages.
    """
    if path.suffix not in SUFFIXES:
        raise ReportError(f"{path}: a comparison is a page: give a name that ends in {' or '.join(SUFFIXES)}")


@dataclass(frozen=True)
class ComparisonPage:
    """Page of a comparison, whose drawings are made once, whatever number of formats is written."""

    comparison: SideBySide

    @cached_property
    def drawings(self) -> list[Drawing]:
        return compared_drawings(self.comparison)

    def write(self, path: Path) -> Path:
        """Write the page in the format of the path's suffix, and return the path. Missing folders are made.

        Raises:
            ReportError: when the suffix is neither of ``SUFFIXES``, or the file cannot be written.
            WouldOverwrite: when the file holds records or predictions.
        """
        refuse_other_formats(path)
        refuse_to_replace(path, FileContent.other)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, self._html() if path.suffix == ".html" else self._markdown(path))
        except OSError as error:
            raise ReportError(f"{path}: {error.strerror}; give an --output that can be written") from error
        return path

    def _html(self) -> str:
        numbers = {id(record): number for number, record in enumerate(self.comparison.records)}
        styles = PlotStyles()
        figures = [
            (drawing, [Markup(styles.inlined(svg, f"d{number}")) for number, svg in enumerate(drawing.panels)])  # noqa: S704  # drawn here, text escaped by matplotlib
            for drawing in self.drawings
        ]
        style, code = stylesheet() + styles.css, script()
        return (
            environment()
            .get_template("comparison.html.j2")
            .render(
                comparison=self.comparison,
                figures=figures,
                folded=folded,
                number=lambda record: numbers[id(record)],
                embedded=embedded(self.comparison.records),
                style=Markup(style),  # noqa: S704  # our own files, and styles of matplotlib
                script=Markup(code),  # noqa: S704  # our own files
                policy=policy(style, code),
            )
        )

    def _markdown(self, path: Path) -> str:
        folder = path.with_name(f"{path.stem}_plots")
        links = []
        for drawing in self.drawings:
            write_whole(folder / f"{drawing.name}.svg", sheet(drawing, {}))
            links.append((drawing, Markup(quote(f"{folder.name}/{drawing.name}.svg"))))  # noqa: S704  # percent-encoded
        engine = environment(finalize=as_markdown)
        return engine.get_template("comparison.md.j2").render(comparison=self.comparison, links=links)
