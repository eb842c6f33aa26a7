"""Output of the verbs: every line as wide as the terminal at most, and whole where no person reads it.

The width is COLUMNS where that is exported, else that of the terminal that a stream is. A pipe or a file has no width:
a line is never broken there and a table never changed, because a program may read it. JSON is never broken anywhere.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

LEAST: Final = 20  # a narrower terminal gets lines of this length
BAR: Final = 40  # characters of a bar of progress, where there is room
LOG_S: Final = 20.0  # seconds between lines of progress where no terminal shows a bar
CONTROLS: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # but line ends
UNLIMITED: Final = 100_000  # the width of a console of rich that must not break lines


def width_of(stream: TextIO) -> int | None:
    """Return the characters that a line of a stream may have; None is any number."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked) > 0:
        return max(LEAST, int(asked))
    try:
        found = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError):  # a stream in memory, or one that is closed
        return None
    return max(LEAST, found) if found else None


def width() -> int | None:
    """Return the characters that a line of the output may have; None is any number."""
    return width_of(sys.stdout)


def say(text: object) -> None:
    """Print text for whoever reads the answer."""
    typer.echo(broken(harmless(str(text)), width()))


def say_pairs(entries: Iterable[tuple[str, str]], *, indent: int = 0) -> None:
    """Print names with what is said of each beside it."""
    from ..reports.tables.stacked_table import paired

    typer.echo("\n".join(paired(entries, width(), indent=indent)))


def say_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, words: Collection[str] = ()) -> None:
    """Print a table; its columns of ``words`` are aligned to the left."""
    from ..reports.tables.stacked_table import fitted

    typer.echo(fitted(headings, rows, words=words, width=width()))


def say_drawing(lines: Iterable[str]) -> None:
    """Print lines that were drawn for this width."""
    typer.echo("\n".join(lines))


def say_json(value: object) -> None:
    """Print JSON for machines."""
    typer.echo(json.dumps(value, indent=2))


def tell(text: str) -> None:
    """Print to stderr what is not part of the answer."""
    typer.echo(broken(harmless(text), width_of(sys.stderr)), err=True)


def complain(reason: object) -> None:
    """Print to stderr what is wrong or was left out."""
    tell(f"moebench: {reason}")


def harmless(text: str) -> str:
    """Return text without what moves a terminal's cursor or turns its letters around: files come from anywhere."""
    return CONTROLS.sub(" ", text)


def broken(text: str, limit: int | None) -> str:
    """Return text with longer lines broken at spaces. A longer word stays whole: it is a path or a command to copy."""
    if limit is None or all(len(line) <= limit for line in text.splitlines()):
        return text
    import textwrap

    lines = []
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip()) + 2 if line.startswith(" ") else 0
        lines += textwrap.wrap(
            line, limit, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)


def console(*, stderr: bool = False) -> Console:
    """Return what prints tables in colours and the state of work under way; text in it is never markup."""
    from rich.console import Console

    class Piped(Console):
        """Leaves an output that is closed early to `endings`, as `say` does; rich would exit with 1."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    return Piped(stderr=stderr, width=width_of(stream) or UNLIMITED, highlight=False, markup=False, emoji=False)


def bar(console: Console) -> Progress:
    """Return a bar for a terminal, with what is under way after it: a narrow terminal cuts the end of that."""
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    long, under_way = min(BAR, console.width // 4), Column(no_wrap=True, overflow="ellipsis")
    return Progress(
        BarColumn(long, table_column=Column(min_width=long)),
        TextColumn("{task.percentage:.0f} %", table_column=Column(min_width=5, justify="right")),
        TextColumn("{task.description}", markup=False, table_column=under_way),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class SignOfLife:
    """A line of progress now and then where no terminal shows a bar: long work in a log does not look dead."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def say(self, doing: str) -> None:
        """Print what is under way, unless there is a bar or the last line is recent."""
        if not self._console.is_terminal and time.monotonic() >= self._next:
            self._next = time.monotonic() + LOG_S
            self._console.print(doing)


def minutes(seconds: float) -> str:
    """Return a time as minutes and seconds."""
    whole, seconds = divmod(round(seconds), 60)
    return f"{whole}:{seconds:02d}"
