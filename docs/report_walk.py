"""Parts of a real report for the page that explains one: made from the records in results/recorded/cpu-main.jsonl."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from moebench.reports.page import Page, View

RECORDS: Final = Path(__file__).resolve().parents[1] / "results/recorded/cpu-main.jsonl"
SUITE: Final = "capacity"
SHOWN: Final = ("kernel", "outcome", "median (ms)", "95 % interval (ms)", "of bound (%)", "peak (MiB)", "dropped (%)")


def winners() -> str:
    """Return the summary's sentence and its table of winners."""
    from moebench.reports.tables.text_table import markdown  # noqa: PLC0415 - these need the package installed

    summary = _page().summary
    rows = [
        [one.section.suite, one.winner.kernel, one.winner.where, one.winner.words, one.winner.standing]
        for one in summary.results
        if one.winner
    ]
    headings = ["suite", "winner", "fastest or tied", "best other (95 % interval)", "so it is"]
    table = markdown(headings, rows, words=["suite", "winner", "fastest or tied", "so it is"])
    return f"> {summary.outcome}\n\n{table}"


def answer() -> str:
    """Return the question of one suite, its answer and what qualifies it, as quotations."""
    view = _view()
    details = "\n".join(f"> - {detail}" for detail in view.answer.details)
    return f"> **{view.section.question}** {view.answer.sentence}\n>\n{details}"


def table() -> str:
    """Return the rows of the first place of that suite, in the columns that say most."""
    from moebench.reports.row import places  # noqa: PLC0415
    from moebench.reports.tables.text_table import markdown  # noqa: PLC0415

    view = _view()
    place, rows = next(iter(places(view.rows).items()))
    columns = [column for column in view.columns if column.heading in SHOWN]
    words = [column.heading for column in columns if not column.numeric]
    cells = [[column.cell(row) for column in columns] for row in rows]
    return f"`{place.title(view.section.axis)}`:\n\n{markdown([one.heading for one in columns], cells, words=words)}"


def notes() -> str:
    """Return the caveats of that suite as quotations."""
    return "\n>\n".join(f"> {note}" for note in _view().section.notes)


def plot() -> str:
    """Return the link to `picture` with its alternative text."""
    from moebench.reports.tables.text_table import escaped  # noqa: PLC0415

    return f"![{escaped(_view().drawings[0].alt)}](reading_a_report.svg)"


def picture() -> str:
    """Return the first plot of that suite as an SVG."""
    from moebench.reports.plots.sheet import sheet  # noqa: PLC0415

    return sheet(_view().drawings[0], _view().styles)


@cache
def _page() -> Page:
    from moebench.reports.page import Page  # noqa: PLC0415
    from moebench.reports.report import Report  # noqa: PLC0415
    from moebench.results.record.store import load  # noqa: PLC0415

    return Page(Report(load(RECORDS).records))


def _view() -> View:
    return next(view for view in _page().views if view.section.suite == SUITE)
