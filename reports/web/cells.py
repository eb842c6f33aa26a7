"""Cells of a page's tables as markup. A long report has a million of them, which a template would take a minute for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from markupsafe import Markup, escape

from ..columns import Column

FOLDED: Final = 22  # characters of a cell beyond which the rest is folded


def folded(text: str) -> Markup:
    """Return the text of a cell; of a long one only the beginning is in sight until it is opened."""
    if len(text) <= FOLDED:
        return escape(text)
    fold = '<details class="fold"><summary>{}…</summary>{}</details>'
    return Markup(fold).format(text[: FOLDED - 2], text)  # noqa: S704  # what is formatted into it is escaped


def cells(columns: Iterable[Column], texts: Iterable[str]) -> Markup:
    """Return the cells of a row, one for each column."""
    parts = [
        f"<td>{folded(text)}</td>" if column.numeric else f'<td class="text">{folded(text)}</td>'
        for column, text in zip(columns, texts, strict=True)
    ]
    return Markup("".join(parts))  # noqa: S704  # texts are escaped
