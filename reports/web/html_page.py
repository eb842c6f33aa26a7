"""Content of the HTML page beside that of `page`: plots in its markup, flat tables, embedded data and its policy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Final

from markupsafe import Markup, escape

from .. import measures
from ..columns import Column, place_columns
from ..page import WORDS, Page, View
from ..plots import plot
from ..plots.drawing import Drawing
from ..plots.inlined import PlotStyles
from ..row import Row, leading, places
from ..tables.flat_table import FlatTable, flat_table, size_columns
from .content_policy import policy, script, stylesheet
from .embedded import EmbeddedRecords, compressed, embedded

FACTS: Final = ("median_ms", "low_ms", "share_of_bound", "config")
"""Measures that are said of a mark which is pointed at, and on top of its record."""


@dataclass(frozen=True)
class Overview:
    """A row for each place with the row of each kernel there, None where it was not run."""

    columns: list[Column]
    shared: list[tuple[str, str]]
    lines: list[tuple[list[str], list[Row | None]]]


@dataclass(frozen=True)
class DrawnPanels:
    """A drawing in the markup of the page."""

    title: str
    measure: str
    alt: str
    caption: str
    panels: list[Markup]


@dataclass(frozen=True)
class HtmlFigure:
    """One kind of plot: what is shown at first, and the same in other measures."""

    shown: DrawnPanels
    others: list[DrawnPanels]

    @property
    def measures(self) -> str:
        """Return the names of the measures in order as JSON."""
        return json.dumps([self.shown.measure, *(other.measure for other in self.others)])

    @property
    def block(self) -> str:
        """Return the others as a block of JSON."""
        return compressed(json.dumps([asdict(other) for other in self.others], ensure_ascii=False))


@dataclass(frozen=True)
class HtmlView(View):
    """One section in HTML; ``plot_styles`` collects the styles of its plots."""

    plot_styles: PlotStyles

    def name(self, row: Row) -> Markup:
        """Return the name of a row's kernel, which may be broken after an underscore."""
        return Markup(str(escape(row.kernel)).replace("_", "_<wbr>"))  # noqa: S704  # escaped

    def number(self, row: Row) -> int:
        """Return the number of a row's record in the report."""
        return self.section.index(row.record)

    @cached_property
    def trials(self) -> FlatTable:
        figures = [*measures.columns(), *size_columns(self.rows)]
        return flat_table(self.rows, self._places, figures, kept=(measures.heading("median_ms"),))

    @cached_property
    def overview(self) -> Overview:
        grouped = places(self.rows)
        first = [min(rows, key=lambda row: row.reference) for rows in grouped.values()]
        table = flat_table(first, [*self._places, *size_columns(first)], ())
        kernels = [leading(rows) for rows in grouped.values()]
        lines = [
            (line.places, [best.get(kernel) for kernel in self.section.kernels])
            for line, best in zip(table.rows, kernels, strict=True)
        ]
        return Overview(table.places, table.shared, lines)

    @cached_property
    def routes(self) -> FlatTable | None:
        """Return the table of routes, None where loads and routers are not compared."""
        rows = self.section.balanced
        figures = [*measures.balance_columns(), *size_columns(rows)]
        return flat_table(rows, self._places, figures) if rows else None

    @property
    def _places(self) -> list[Column]:
        series, place, dtype, mode, _, differs = place_columns(self.section.axis)
        numeric = any(row.place.numeric for row in self.rows)
        return [series, replace(place, numeric=numeric), dtype, mode, differs]

    @cached_property
    def figures(self) -> list[HtmlFigure]:
        """Return one figure for each kind of plot; drawings of one kind differ in their measure."""
        kinds = groupby(self.drawings, key=lambda drawing: drawing.name)
        return [self._figure(f"p{self.order}-{number}", list(same)) for number, (_, same) in enumerate(kinds)]

    @cached_property
    def keys(self) -> list[tuple[Markup, str, int | None]]:
        """The legend: a sample of every style, its name and the number of its series, None for the bound."""
        order = {name: number for number, name in enumerate(self.styles)}
        drawn = sorted({name for drawing in self.drawings for name in drawing.kernels}, key=order.__getitem__)
        found: list[tuple[Markup, str, int | None]] = [
            (self._inlined(plot.swatch(self.styles[name]), f"k{self.order}-{order[name]}"), name, order[name])
            for name in drawn
        ]
        if any(drawing.bound for drawing in self.drawings):
            found.append((self._inlined(plot.swatch(None), f"k{self.order}-bound"), plot.BOUND, None))
        return found

    def _figure(self, prefix: str, same: list[Drawing]) -> HtmlFigure:
        drawn = [self._in_markup(f"{prefix}-{number}", drawing) for number, drawing in enumerate(same)]
        return HtmlFigure(drawn[0], drawn[1:])

    def _in_markup(self, prefix: str, drawing: Drawing) -> DrawnPanels:
        panels = [self._inlined(svg, f"{prefix}-{number}") for number, svg in enumerate(drawing.panels)]
        return DrawnPanels(drawing.title, drawing.measure, drawing.alt, drawing.caption, panels)

    def _inlined(self, svg: str, prefix: str) -> Markup:
        return Markup(self.plot_styles.inlined(svg, prefix))  # noqa: S704  # drawn here, text escaped by matplotlib


@dataclass(frozen=True)
class HtmlPage:
    """Content of the HTML page beside that of its `Page`."""

    page: Page
    plot_styles: PlotStyles = field(default_factory=PlotStyles)

    @cached_property
    def views(self) -> list[HtmlView]:
        return [
            HtmlView(view.order, view.section, view.styles, view.drawn, view.reproduction, self.plot_styles)
            for view in self.page.views
        ]

    @cached_property
    def embedded(self) -> EmbeddedRecords:
        return embedded(self.page.records)

    @property
    def glossary(self) -> list[tuple[str, str]]:
        """Return the words of a page and the measures that its tables show, with their meaning."""
        tables = [table for view in self.views for table in (view.trials, view.routes) if table]
        return [*WORDS, *measures.glossary(heading for table in tables for heading in table.headings)]

    @cached_property
    def style(self) -> Markup:
        """Return the whole stylesheet, that of the plots included, which are drawn for it."""
        for view in self.views:
            _ = view.figures, view.keys
        return Markup(stylesheet() + self.plot_styles.css)  # noqa: S704  # our own files, and styles of matplotlib

    @property
    def script(self) -> Markup:
        return Markup(script())  # noqa: S704  # our own files

    @property
    def policy(self) -> str:
        return policy(self.style, self.script)

    @cached_property
    def facts(self) -> frozenset[str]:
        """Return the headings of the columns that are said of a mark."""
        return frozenset(measures.heading(name) for name in FACTS)
