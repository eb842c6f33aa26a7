"""Tables that read well on a terminal and paste as they are into a pull request."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]], *, words: Sequence[str] = ()) -> str:
    """A Markdown table with aligned columns: those titled in ``words`` to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    left = [title in words for title in titles]

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, left, strict=True)
        return f"| {' | '.join(f'{cell:<{width}}' if word else f'{cell:>{width}}' for cell, width, word in placed)} |"

    rule = "|".join(
        f" {'-' * width} " if word else f" {'-' * (width - 1)}: " for width, word in zip(widths, left, strict=True)
    )
    return "\n".join([line(titles), f"|{rule}|", *map(line, rows)])
