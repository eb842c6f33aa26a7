"""Numbers that a user writes down: how many of something."""

from __future__ import annotations

from typing import Final

DIGITS: Final = 18
"""Digits of the longest numbers that are read: more than there is of anything, fewer than Python refuses to read."""


def count(word: str) -> int | None:
    """Return the positive number that a word is, None if it is none, or longer than `DIGITS`."""
    word = word.strip()
    if not word.isdecimal() or len(word.lstrip("0")) > DIGITS:
        return None
    return int(word) or None
