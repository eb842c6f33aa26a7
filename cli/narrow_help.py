"""The help of a verb on a narrow terminal: each option on a line, what it does below it."""

from __future__ import annotations

from typing import Any, Final

from ..reports.tables.stacked_table import folded
from .screen import width

USUAL: Final = 62  # characters below which two columns leave too few for sentences
FIRST_COLUMN: Final = 2  # a longer name of an option has its sentence on the lines below


def make_room(command: Any) -> dict[str, Any]:
    """Let the help of a command fit a narrow terminal; return the settings for its context.

    typer makes contexts of a class of its own, whose formatter is the one thing that decides how help is laid out.
    """
    limit = width()
    if limit is None or limit >= USUAL:
        return {}
    usual = command.context_class.formatter_class
    if not getattr(usual, "narrow", False):

        class NarrowHelp(usual):  # type: ignore[misc, valid-type]  # typer has no public name for it
            narrow = True

            def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
                if self.width < USUAL:
                    room, col_max = self.width - self.current_indent, FIRST_COLUMN
                    rows = [("\n".join(folded(name, room, self.current_indent + 4)), said) for name, said in rows]
                super().write_dl(rows, col_max, col_spacing)

        command.context_class.formatter_class = NarrowHelp
    return {"terminal_width": limit}
