"""The base class of errors that a user can mend, and the one line in which any error is told."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can put right. The message names the value and the remedy.

    The command line prints the message and ends with exit code 2; any other exception is a fault of moebench and keeps
    its traceback.
    """


def in_one_line(error: BaseException) -> str:
    """Return an error as its type and the first line of its message, even of one whose message cannot be made."""
    try:
        lines = str(error).splitlines()
    except Exception:  # noqa: BLE001  # any code may stand in the message of another project's error
        lines = []
    return f"{type(error).__name__}: {(lines and lines[0].strip()) or 'no message'}"
