"""A step of a session: one command with its time limit and the files that it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class SessionStep:
    """One command of a session, run in the session's folder.

    ``number`` says where it stands, as in docs/gpu.md: ``1.4`` is the fourth question of stage 1. ``worth`` is what it
    tells. It is killed after ``limit_s`` seconds. ``files`` are what it makes in the folder, ``environment`` the
    variables that it gets beside those of the session. ``obstacle`` is why it cannot be done here, with the remedy;
    empty where it can.
    """

    number: str
    name: str
    worth: str
    command: tuple[str, ...]
    limit_s: float
    files: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    obstacle: str = ""

    @property
    def stage(self) -> str:
        """The stage that it belongs to: ``1``, ``2`` or ``3``."""
        return self.number.partition(".")[0]
