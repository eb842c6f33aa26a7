"""Tables of text, as Markdown or for a terminal: every table that is not part of a page is made here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.table import Table

GAP = 2  # terminal cells between two columns


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], *, words: Collection[str] = ()) -> str:
    """Return a Markdown table with aligned columns, which reads well on a terminal and pastes into a pull request.

    Columns whose heading is in ``words`` are aligned to the left, the others hold numbers and are aligned to the right.
    Cells are written as they are: `escaped` makes foreign text safe.
    """
    # The rule below a column of numbers is a hyphen and a colon at least, or it is no table.
    widths = [max(map(len, (*column, "-:"))) for column in zip(headings, *rows, strict=True)]
    left = [heading in words for heading in headings]

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, left, strict=True)
        return f"| {' | '.join(f'{cell:<{width}}' if word else f'{cell:>{width}}' for cell, width, word in placed)} |"

    rule = "|".join(
        f" {'-' * width} " if word else f" {'-' * (width - 1)}: " for width, word in zip(widths, left, strict=True)
    )
    return "\n".join([line(headings), f"|{rule}|", *map(line, rows)])


def grid(
    headings: Sequence[str],
    rows: Iterable[tuple[Sequence[str], str]],
    *,
    words: Collection[str] = (),
    widths: Sequence[int] | None = None,
    with_headings: bool = True,
) -> Table:
    """Return a table for ``rich`` to print. Each row is its cells and its style; a row without cells is a blank line.

    ``words`` as in `markdown`. ``widths`` are the terminal cells of each column, by default those of its longest cell;
    longer text is folded. Cells are text: markup in them is printed, not obeyed.
    """
    from rich.table import Table  # noqa: PLC0415  # the command line imports this module before it knows its verb
    from rich.text import Text  # noqa: PLC0415  # likewise

    table = Table.grid(padding=(0, GAP, 0, 0))
    for order, heading in enumerate(headings):
        table.add_column(
            justify="left" if heading in words else "right",
            overflow="fold",
            width=widths[order] if widths else None,
            vertical="bottom",
        )
    if with_headings:
        table.add_row(*map(Text, headings), style="dim")
    for cells, style in rows:
        table.add_row(*map(Text, cells), style=style)
    return table


def escaped(text: str) -> str:
    """Return Markdown that shows a text and does nothing else: no markup, no end of a cell, no link, no mention."""
    return _MARKDOWN.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[0]), text)


# Underscores inside a word are safe and frequent (grouped_gemm); the rest could mean something somewhere.
_MARKDOWN: Final = re.compile(r"[\\`*<>&|\[\]~$#@!]|(?<![^\W_])_|_(?![^\W_])|://|(?<=www)\.")
