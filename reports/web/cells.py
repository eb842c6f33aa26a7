"""Cells of a page's tables as markup. A long report has a million of them, which a template would take a minute for."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape  # three times as fast as that of markupsafe, which makes an object of each text
from typing import Final

from markupsafe import Markup

from ..columns import Column

FOLDED: Final = 22  # characters of a cell beyond which the rest is folded


def folded(text: str) -> Markup:
    """Return the text of a cell; of a long one only the beginning is in sight until it is opened."""
    return Markup(_folded(text))  # noqa: S704  # escaped


def _folded(text: str) -> str:
    if len(text) <= FOLDED:
        return escape(text)
    return f'<details class="fold"><summary>{escape(text[: FOLDED - 2])}…</summary>{escape(text)}</details>'


def cells(columns: Iterable[Column], texts: Iterable[str]) -> Markup:
    """Return the cells of a row, one for each column."""
    parts = [
        f"<td>{_folded(text)}</td>" if column.numeric else f'<td class="text">{_folded(text)}</td>'
        for column, text in zip(columns, texts, strict=True)
    ]
    return Markup("".join(parts))  # noqa: S704  # texts are escaped
