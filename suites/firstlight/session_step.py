"""A step of a session: one command with its time limit and the files that it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class SessionStep:
    """One command of a session, run in the session's folder.

    ``number`` is its place in the table of docs/gpu.md: ``1.4`` is the fourth question of stage 1. ``worth`` says in
    one line what it finds out. It is killed after ``limit_s`` seconds. ``files`` are the files that it writes in the
    folder, ``environment`` the variables that it gets in addition to those of the session. ``obstacle`` says why it
    cannot run on this machine, with the remedy; it is empty where it can run.
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
