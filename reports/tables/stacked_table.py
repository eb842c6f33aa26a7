"""Tables for a terminal that is too narrow for them: the cells of a row stand under each other, and none is cut."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .text_table import GAP, grid, markdown

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

INDENT: Final = 2  # of what stands under the first line of a row; its continuations have twice that
READABLE: Final = 32  # characters of a line below which text is read more easily under its name


def fitted(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    words: Collection[str] = (),
    width: int | None = None,
    cell: Callable[[str], str] = str,
) -> str:
    """Return a Markdown table where it is no wider than ``width``, else its rows stacked; None is any width.

    ``cell`` turns the text of a cell into Markdown.
    """
    table = markdown(headings, [list(map(cell, row)) for row in rows], words=words)
    if width is None or widest(table) <= width:
        return table
    stack = Stack(headings, rows, words, width)
    return "\n".join([*stack.heading, *(line for row in rows for line in stack.row(row))])


def widest(text: str) -> int:
    """Return the length of the longest line."""
    return max(map(len, text.splitlines()), default=0)


def folded(text: str, width: int, indent: int = 0) -> list[str]:
    """Return text as lines: broken at spaces, a longer word after a mark or an underscore, or else anywhere.

    ``indent`` is that of every line but the first.
    """
    room = max(1, width - indent)
    pieces = _BREAKABLE.sub(lambda word: _broken(word[0], room), text)
    lines = textwrap.wrap(pieces, width, subsequent_indent=" " * indent, break_on_hyphens=False)
    return lines or [""]


_BREAKABLE: Final = re.compile(r"\S+")
_PART: Final = re.compile(r"[^\s_./,:|-]*[_./,:|-]+|[^\s_./,:|-]+")


def _broken(word: str, room: int) -> str:
    """Return a word with a space where it must be broken."""
    if len(word) <= room:
        return word
    lines = [""]
    for part in _PART.findall(word):
        if len(lines[-1]) + len(part) > room and lines[-1]:
            lines.append("")
        lines[-1] += part
    return " ".join(lines)


class Stack:
    """The layout of one table: each row has its name on a line, its figures aligned below, then what is said of it.

    The name is the first column with the columns of ``words`` beside it, what is said are the last columns of words.
    Figures that are too wide for a line are one to a line, each after its heading; so is a name of one column.
    """

    def __init__(
        self, headings: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[str], width: int
    ) -> None:
        rows = [row for row in rows if row]
        word = [heading in words for heading in headings]
        names = next((index for index in range(1, len(word)) if not word[index]), len(word))
        if not word[0] and len(word) > 1 and word[1]:
            names = max(names, 2)
        said = len(word)
        while said > names and word[said - 1]:
            said -= 1
        self._names, self._figures, self._said = slice(0, names), slice(names, said), slice(said, None)
        self._left = word[self._figures]
        self._width = width
        self._labels = [" ".join(heading.split()) for heading in headings]
        figures = self._labels[self._figures]
        cells = [max((len(row[names + index]) for row in rows), default=0) for index in range(len(figures))]
        whole = [max(len(label), least) for label, least in zip(figures, cells, strict=True)]
        split = [max(map(len, label.split())) for label in figures]
        narrow = [max(least, cell) for least, cell in zip(split, cells, strict=True)]
        self._widths = whole if self._length(whole) <= width else narrow
        self._aligned = self._length(self._widths) <= width

    @property
    def heading(self) -> list[str]:
        """Lines of headings, in the places of what they are of."""
        above = self._text(self._labels[self._names], 0)
        below = self._text(self._labels[self._said], INDENT)
        if not self._aligned:
            return []
        parts = [folded(label, width) for label, width in zip(self._labels[self._figures], self._widths, strict=True)]
        tallest = max(map(len, parts), default=0)
        padded = [[""] * (tallest - len(part)) + part for part in parts]
        return [*above, *(self._line(cells) for cells in zip(*padded, strict=True)), *below]

    def row(self, cells: Sequence[str]) -> list[str]:
        """Return the lines of a row; a row without cells is a blank line."""
        if not cells:
            return [""]
        lines = self._text(cells[self._names], 0)
        if self._aligned:
            lines += [self._line(cells[self._figures])] if self._widths else []
            return lines + self._text(cells[self._said], INDENT)
        if self._names.stop == 1:
            lines = self._text([f"{self._labels[0]} {cells[0]}"], 0)
        labels = self._labels[self._names.stop :]
        longest = max(map(len, labels))
        for label, cell in zip(labels, cells[self._names.stop :], strict=True):
            if cell:
                lines += self._indented(f"{label:<{longest}}  {cell}", INDENT)
        return lines

    def _length(self, widths: Sequence[int]) -> int:
        return INDENT + sum(widths) + GAP * (len(widths) - 1)

    def _text(self, cells: Sequence[str], indent: int) -> list[str]:
        text = "  ".join(cell for cell in cells if cell)
        return self._indented(text, indent) if text else []

    def _indented(self, text: str, indent: int) -> list[str]:
        first, *more = folded(" " * indent + text, self._width, 2 * INDENT)
        return [first, *more]

    def _line(self, cells: Sequence[str]) -> str:
        placed = zip(cells, self._widths, self._left, strict=True)
        line = (" " * GAP).join(f"{cell:<{width}}" if left else f"{cell:>{width}}" for cell, width, left in placed)
        return f"{' ' * INDENT}{line}".rstrip()


@dataclass(frozen=True)
class FittedGrid:
    """A `grid` as wide as its console: where that is too narrow, its rows are stacked."""

    headings: Sequence[str]
    rows: Sequence[tuple[Sequence[str], str]]
    words: Collection[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.measure import Measurement  # noqa: PLC0415  # as in `grid`
        from rich.text import Text  # noqa: PLC0415

        table = grid(self.headings, self.rows, words=self.words)
        unlimited = options.update_width(10_000)
        if Measurement.get(console, unlimited, table).maximum - GAP <= options.max_width:
            yield table
            return
        stack = Stack(self.headings, [cells for cells, _ in self.rows], self.words, options.max_width)
        yield from (Text(line, style="dim") for line in stack.heading)
        yield from (Text(line, style=style) for cells, style in self.rows for line in stack.row(cells))


def paired(entries: Iterable[tuple[str, str]], width: int | None, *, indent: int = 0) -> Iterator[str]:
    """Yield lines of names with what is said of each beside them, or below where that leaves too little room."""
    entries = list(entries)
    margin = " " * indent
    beside = indent + max((len(name) for name, _ in entries), default=0) + GAP
    lines = [f"{margin + name:<{beside}}{said}".rstrip() for name, said in entries]
    if width is None or max(map(len, lines), default=0) <= width:
        yield from lines
    elif width - beside >= READABLE:
        yield from (part for line in lines for part in folded(line, width, beside))
    else:
        for name, said in entries:
            yield from folded(margin + name, width, indent)
            yield from folded(f"{margin}{' ' * INDENT}{said}", width, indent + INDENT) if said else ()
