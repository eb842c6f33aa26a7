"""Reproduction: the commands that measure records again, as a report shows them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reproduction:
    """Commands for a shell, and a sentence about what they leave open, empty if nothing. There may be no command."""

    commands: tuple[str, ...] = ()
    note: str = ""
