"""Advice on a terminal: a table of the dispatches of each phase, and sentences that say what to use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from ...results.record.advice import Advice, PhaseAdvice
from ..numbers import plain
from ..tables.stacked_table import INDENT, FittedGrid
from . import advice_words as words

SHOWN: Final = 5
"""Dispatches of a phase that are shown; JSON and pages have all."""


def advice_table(advice: Advice) -> Iterator[RenderableType]:
    """Yield what ``rich`` prints for an advice: the setting, the answers, the table, the mix and the memory."""
    yield words.title(advice)
    yield words.setting(advice)
    for phase in advice.phases:
        yield ""
        yield words.phase_answer(phase)
        yield from map(_below, words.details(phase))
        if phase.options:
            yield FittedGrid(words.option_headings(advice), list(_rows(phase, advice)), words=("dispatch", "source"))
    yield ""
    yield from words.mix_words(advice)
    yield ""
    yield words.size_words(advice)
    headings = words.memory_headings(advice)
    rows = [(cells, "") for cells in words.memory_rows(advice)]
    yield FittedGrid(headings, rows, words=("format", headings[-1]))
    yield ""
    yield from words.explanations(advice)
    if advice.command:
        yield "this measures side by side what was not:"
        yield _below(plain(advice.command))


def _below(text: str) -> RenderableType:
    """Return a line that belongs to the one above it, indented where it is broken too."""
    return Padding(Text(text), (0, 0, 0, INDENT), expand=False)


def _rows(phase: PhaseAdvice, advice: Advice) -> Iterator[tuple[list[str], str]]:
    for option in phase.options[:SHOWN]:
        best = phase.options[0]
        yield words.option_cells(option, best, advice), "bold green" if option is best else ""
