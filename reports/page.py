"""Pages: the whole report as one HTML file that needs nothing else, or as Markdown with its plots beside it.

Records come from anywhere, so no text of theirs is trusted: HTML is escaped by the template engine, Markdown by
``escaped``, and files are named by number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..results.record import Record
from ..results.record.prediction import Prediction
from ..results.references import REFERENCES
from . import numbers, plot
from .answer import Answer, answer
from .palette import Style, styles
from .section import RecordedMachine, Section, machines, period, sections
from .table import KERNEL, MEASURES, OUTCOME, Column, Row, leading, place_columns, places, where, worth
from .text_table import escaped

SUMMARISED: Final = 30  # rows that are read at a glance; a longer table is folded behind a summary

GLOSSARY: Final = (
    ("median", "the middle of all samples, with the 95 % bootstrap interval of the median"),
    (
        "cold, hot, eager",
        "three ways to time a call, never compared with each other: with nothing of it in the caches; as one of many "
        "in a CUDA graph, over more inputs than the cache holds; as Python makes one call after the other, by the "
        "host's clock, so that launching counts too",
    ),
    ("spread", "half the interquartile range over the median"),
    ("tied", "the interval reaches into that of the fastest: these samples do not tell them apart"),
    (
        "lower bound",
        "the larger of useful FLOPs over the measured matmul rate and ideal bytes over the measured rate of memory, "
        "which is the better of a copy and of a stream that only reads",
    ),
    ("of bound", "lower bound over median; 100 % is all that the machine can do"),
    ("useful TFLOP/s", "FLOPs of the expert products on kept rows over the median; padding does not count"),
    ("peak", "memory that one call allocates beyond its inputs"),
    ("dropped", "share of the routed rows that the capacity left out"),
    ("padding", "executed over useful FLOPs"),
    ("copies a route", "rows that left their rank over routes that did: deduplication saves some, padding adds some"),
    (
        "communicating, waiting",
        "shares of a call in collectives that all ranks started together, and in waiting for the slowest to start",
    ),
    ("hidden", "share of the communication during which the computation went on"),
    *(
        (name, f"{words}: a rate to compare with, not a rival; its lower bound is its own")
        for name, words in REFERENCES.items()
    ),
    (
        "of matmul, of dense",
        "useful TFLOP/s over those of that reference; dense is not fused, so matmul is the stricter",
    ),
)


@dataclass(frozen=True)
class View:
    """What a template shows of one section; ``order`` names its files and anchors."""

    order: int
    section: Section
    styles: dict[str, Style]

    @cached_property
    def answer(self) -> Answer:
        return answer(self.section)

    @property
    def rows(self) -> list[Row]:
        return self.section.rows

    @property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """The rows of every place, under its name."""
        return [(where(place, self.section.axis), rows) for place, rows in places(self.rows).items()]

    @property
    def measures(self) -> list[Column]:
        return worth(MEASURES, self.rows)

    @property
    def columns(self) -> list[Column]:
        return [*worth(place_columns(self.section.axis), self.rows), KERNEL, OUTCOME, *self.measures]

    @property
    def summary(self) -> list[tuple[str, list[tuple[str, list[Row | None]]]]]:
        """For every facet, for every place on the axis, the row of each kernel in the order of ``section.kernels``."""
        return [
            (
                facet.title,
                [
                    (numbers.exact(place.x), [best.get(kernel) for kernel in self.section.kernels])
                    for place, best in ((place, leading(group)) for place, group in places(rows).items())
                ],
            )
            for facet, rows in self.section.facets.items()
        ]

    @property
    def long(self) -> bool:
        return len(self.rows) > SUMMARISED

    @property
    def undrawn(self) -> int:
        """Trials that a plot of times cannot show."""
        return sum(not row.passed for row in self.rows)

    @property
    def bound(self) -> bool:
        return plot.has_bound(self.section)

    @property
    def panels(self) -> list[Markup]:
        return [
            Markup(plot.inlined(svg, f"plot-{self.order}-{number}"))  # noqa: S704  # drawn here, text escaped by matplotlib
            for number, svg in enumerate(plot.panels(self.section, self.styles))
        ]

    @property
    def keys(self) -> list[tuple[Markup, str]]:
        """The legend: a sample of every style with its name."""
        drawn = plot.drawn_kernels(self.section)
        named = [(self.styles[kernel], kernel) for kernel in drawn]
        return [(self._swatch(index, style), name) for index, (style, name) in enumerate(named)] + (
            [(self._swatch(len(named), None), plot.BOUND)] if self.bound else []
        )

    def _swatch(self, index: int, style: Style | None) -> Markup:
        return Markup(plot.inlined(plot.swatch(style), f"key-{self.order}-{index}"))  # noqa: S704  # as above


@dataclass(frozen=True)
class Page:
    """Everything a template shows."""

    records: Sequence[Record]
    problems: Sequence[str]
    predictions: Sequence[Prediction] = ()
    glossary: Sequence[tuple[str, str]] = GLOSSARY
    plots_missing: str = plot.MISSING

    @cached_property
    def machines(self) -> list[RecordedMachine]:
        return machines(self.records)

    @property
    def period(self) -> str:
        return period(self.records)

    @cached_property
    def views(self) -> list[View]:
        found = sections(self.records, self.predictions)
        chosen = styles(kernel for section in found for kernel in plot.drawn_kernels(section))
        return [View(order, section, chosen) for order, section in enumerate(found, start=1)]


def write_html(
    records: Sequence[Record], problems: Sequence[str], path: Path, predictions: Sequence[Prediction] = ()
) -> Path:
    """Write the report as one HTML file without scripts or outside resources, and return its path.

    ``problems`` are sentences about what could not be read; they stand at the top. ``predictions`` are drawn beside
    the records of the same series.
    """
    page = Page(records, [numbers.plain(problem) for problem in problems], predictions)
    return _write(path, _environment().get_template("report.html.j2").render(page=page))


def write_markdown(
    records: Sequence[Record], problems: Sequence[str], path: Path, predictions: Sequence[Prediction] = ()
) -> Path:
    """Write the report as Markdown, with a plot a suite in ``<name>_plots`` beside it, and return its path."""
    page = Page(records, [numbers.plain(problem) for problem in problems], predictions)
    folder = path.with_name(f"{path.stem}_plots")
    links = {}
    for view in page.views:
        if svg := plot.sheet(view.section, view.styles):
            file = _write(folder / f"{view.order}.svg", svg)
            links[view.order] = Markup(quote(f"{folder.name}/{file.name}"))  # noqa: S704  # percent-encoded
    template = _environment(finalize=_as_markdown).get_template("report.md.j2")
    return _write(path, template.render(page=page, links=links))


def _as_markdown(value: object) -> object:
    """Escape the text that a template writes, unless it is Markdown already."""
    return value if not isinstance(value, str) or isinstance(value, Markup) else Markup(escaped(value))  # noqa: S704  # escaped


def _environment(finalize: Callable[[object], object] | None = None) -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["numbers"] = numbers
    return environment


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
