"""Comma-separated values: one line for each trial, for a spreadsheet."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ...common.files import write_whole
from ..numbers import plain
from ..report import Report, ReportFormat
from ._frame import frame

FORMULA: Final = ("=", "+", "-", "@")  # a spreadsheet computes a cell that begins so


def _write(report: Report, path: Path) -> None:
    write_whole(path, frame(report).map(_harmless).to_csv(index=False))


def _harmless(cell: object) -> object:
    """Return text that no spreadsheet takes for a formula and no terminal for a command; other values as they are."""
    if not isinstance(cell, str):
        return cell
    text = plain(cell)
    return f"'{text}" if text.startswith(FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


report_format = ReportFormat(suffix=".csv", write=_write)
