"""Content of a page for its templates: the views of its sections, the machines and the glossary.

Records come from anywhere, so no text of theirs is trusted: HTML is escaped by the template engine, Markdown by
`escaped`, and files are named by number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..results.record import Record
from ..results.record.reproduction import Reproduction
from . import measures, numbers
from .answers.answer import Answer, answer
from .answers.gaps import gaps
from .answers.summary import DECODE_TOKENS, Summary
from .columns import KERNEL, OUTCOME, Column, place_column, place_columns, worth
from .plots.drawing import Drawing
from .plots.drawings import MISSING
from .plots.palette import Style
from .report import Report
from .row import Row, leading, places, shaped
from .section import RecordedMachine, Section, period

SUMMARISED: Final = 30  # rows that are read at a glance; a longer table is folded behind a summary

WORDS: Final = (
    (
        "cold, hot, eager",
        "three ways to time a call, which are never compared with each other. Cold: nothing of the call is in the "
        "caches. Hot: the call is one of many in a CUDA graph, over more inputs than the cache holds. Eager: Python "
        "makes one call after the other, timed by the host's clock, so that launching counts too",
    ),
    (
        "best other",
        "the time of the fastest other kernel at each point over that of the winner, the geometric mean over points "
        "of a contest: above 1 the winner is faster than the best of the others, below 1 it is mixed, because picking "
        "the best other at each point is faster; tied where the interval holds 1",
    ),
    (
        "decode, prefill, training",
        f"a forward of up to {DECODE_TOKENS} tokens a rank, one of more, and a training step",
    ),
    ("tied", "the interval reaches into that of the fastest: these samples cannot tell the two apart"),
    (
        "lower bound",
        "the least time that the machine allows: useful FLOPs over its measured matmul rate, or ideal bytes over its "
        "measured memory rate, whichever is larger. The memory rate is the better of a copy and of a stream that only "
        "reads",
    ),
)
"""Words that a page uses beside the headings of its measures, with their meaning."""


@dataclass(frozen=True)
class View:
    """One section as a template shows it; ``order`` names its files and anchors, ``drawn`` are its drawings to come."""

    order: int
    section: Section
    styles: dict[str, Style]
    drawn: Future[list[Drawing]]
    reproduction: Reproduction

    @cached_property
    def answer(self) -> Answer:
        return answer(self.section)

    @property
    def rows(self) -> list[Row]:
        return self.section.rows

    @property
    def drawings(self) -> list[Drawing]:
        """Return the drawings of the section, and wait for them if they are not done."""
        return self.drawn.result()

    @cached_property
    def measures(self) -> list[Column]:
        return worth(measures.columns(), self.rows)

    @cached_property
    def balance(self) -> list[Column]:
        """Return the columns of the table of routes, none where there is no such table."""
        rows = self.section.balanced
        return [place_column(self.section.axis), *worth(measures.balance_columns(), rows)] if rows else []

    @property
    def balance_groups(self) -> list[tuple[str, list[Row]]]:
        """Return the rows of the table of routes under the name of their facet."""
        grouped = groupby(self.section.balanced, key=lambda row: row.place.facet)
        found = [(facet.title, list(rows)) for facet, rows in grouped]
        return [(shaped(title, rows), rows) for title, rows in found]

    @cached_property
    def columns(self) -> list[Column]:
        return [*worth(place_columns(self.section.axis), self.rows), KERNEL, OUTCOME, *self.measures]

    @property
    def summary(self) -> list[tuple[str, list[tuple[str, list[Row | None]]]]]:
        """For every facet, for every place on the axis, the row of each kernel in the order of ``section.kernels``."""
        return [
            (
                shaped(facet.title, rows),
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
    def environment(self) -> str:
        """Return one line on the machine and the software that made the section's records."""
        known = self.section.machine.environment
        threads = sorted({record.environment.threads for record in self.section.records})
        commits = dict.fromkeys(numbers.plain(record.commit)[:12] for record in self.section.records)
        parts = [
            self.section.machine.label,
            numbers.counted(threads[-1], "thread") if len(threads) == 1 else f"{threads[0]} to {threads[-1]} threads",
            f"torch {known.torch}",
            *([f"Triton {known.triton}"] if known.triton else []),
            *([f"CUDA {known.cuda}"] if known.cuda else []),
            *([f"driver {known.driver}"] if known.driver else []),
            f"moebench {known.moebench}, commit {', '.join(commits)}",
            f"measured {period(self.section.records)} UTC",
        ]
        return numbers.plain(" · ".join(parts))

    @property
    def commands(self) -> list[str]:
        """Return the commands that measure the section's records again, a line each."""
        return [numbers.plain(command) for command in self.reproduction.commands]

    @property
    def without_command(self) -> str:
        """Return what the commands leave out, or why there is none; empty where they measure everything again."""
        return numbers.plain(self.reproduction.note)

    @property
    def undrawn(self) -> int:
        """Trials that a plot of times cannot show."""
        return sum(not row.passed for row in self.rows)


@dataclass(frozen=True)
class Page:
    """Everything a template shows of a report."""

    report: Report
    plots_missing: str = MISSING
    folded_above: int = SUMMARISED

    @property
    def records(self) -> Sequence[Record]:
        return self.report.records

    @property
    def problems(self) -> list[str]:
        return [numbers.plain(problem) for problem in self.report.problems]

    @cached_property
    def gaps(self) -> list[str]:
        return gaps(self.records, self.report.known_kernels)

    @property
    def machines(self) -> list[RecordedMachine]:
        return self.report.machines

    def machine_number(self, machine: RecordedMachine) -> int:
        """Return the place of a machine in the list of all, from 1."""
        return next(number for number, one in enumerate(self.machines, start=1) if one.label == machine.label)

    @property
    def period(self) -> str:
        return period(self.records)

    @cached_property
    def summary(self) -> Summary:
        return Summary(self.report.sections)

    @cached_property
    def views(self) -> list[View]:
        report = self.report
        again = report.reproduction or (lambda _: Reproduction())
        return [
            View(order, section, report.styles, drawn, again(section.records))
            for order, (section, drawn) in enumerate(zip(report.sections, report.drawings, strict=True), start=1)
        ]

    @property
    def glossary(self) -> list[tuple[str, str]]:
        """Return the words of a page and the measures that it shows, with their meaning."""
        shown = [column.heading for view in self.views for column in (*view.measures, *view.balance)]
        return [*WORDS, *measures.glossary(shown)]


def environment(finalize: Callable[[object], object] | None = None) -> Environment:
    """Return the template engine. ``finalize`` is applied to every value that a template writes."""
    found = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals["numbers"] = numbers
    return found
