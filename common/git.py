"""Calls of git."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .errors import UserError


class GitError(UserError):
    """A call of git that failed; the message says which and why."""


def git(folder: Path, *arguments: str, timeout_s: float | None = None) -> bytes:
    """Return the output of a git command in a folder. The arguments must be made by the program, not by a user.

    Raises:
        GitError: when git is not installed, fails, or takes longer than ``timeout_s``.
    """
    program = shutil.which("git")
    if program is None:
        raise GitError("git is not installed: install it")
    command = [program, "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603  # see above
    except (subprocess.SubprocessError, OSError) as error:
        raise GitError(f"git {arguments[0]}: {error}") from error
    if answer.returncode:
        reason = answer.stderr.decode(errors="replace").strip().splitlines()
        raise GitError(f"git {arguments[0]}: {reason[-1] if reason else f'exit code {answer.returncode}'}")
    return answer.stdout
