"""The text of a number, a name and a status: the same on a page, in Markdown and in a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..results.record import Status
from ..results.stats import Interval

NO_BREAK = "\u00a0"
GROUP = "\u202f"  # narrow no-break space between groups of thousands, as ISO 80000-1 asks
MISSING = "–"
DIGITS = 3


def number(value: float) -> str:
    """Return three significant digits with grouped thousands, and an exponent only below a millionth."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    rounded = float(f"{value:.{DIGITS - 1}e}")
    magnitude = math.floor(math.log10(abs(rounded)))
    if magnitude < -6:
        return f"{rounded:.{DIGITS - 1}e}"
    return f"{rounded:,.{max(0, DIGITS - 1 - magnitude)}f}".replace(",", GROUP)


def optional(value: float | None) -> str:
    """Return the number, or a dash where there is none."""
    return MISSING if value is None else number(value)


def ends(interval: Interval | None) -> str:
    """Return the ends of an interval, or a dash where there is none."""
    return MISSING if interval is None else f"{number(interval.low)} – {number(interval.high)}"


def span(values: Sequence[float], unit: str = "", write: Callable[[float], str] = number) -> str:
    """Return the range of some values, or one value when both ends have the same text."""
    low, high = write(min(values)), write(max(values))
    return f"{low}{unit}" if low == high else f"{low}{unit} to {high}{unit}"


def exact(x: float | str) -> str:
    """Return a place on an axis. It is never rounded to three digits, because 16384 is not 16400."""
    return plain(x) if isinstance(x, str) else f"{x:,.15g}".replace(",", GROUP)


def place_words(axis: str, x: float | str) -> str:
    """Return a place with the name of its axis if it is a number: ``ranks = 4``, but ``dropless``."""
    named = axis and not isinstance(x, str) and math.isfinite(x)
    return f"{axis} = {exact(x)}" if named else exact(x)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 trial``, ``2 trials``."""
    return f"{number_of(count)} {noun}{'' if count == 1 else 's'}"


def number_of(count: int) -> str:
    """Return a count with all its digits and grouped thousands."""
    return f"{count:,}".replace(",", GROUP)


def plain(text: str, limit: int | None = None) -> str:
    """Return text of a record as one printable line.

    Control characters (terminal escapes, line breaks, direction marks) become spaces; beyond ``limit`` characters it
    is cut with an ellipsis.
    """
    printable = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(printable.split())
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def status_words(status: Status) -> str:
    """Return a status as words."""
    return status.value.replace("_", " ")
