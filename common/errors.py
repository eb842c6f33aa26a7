"""The base class of errors that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can put right. The message names the value and the remedy.

    The command line prints the message and ends with exit code 2; any other exception is a fault of moebench and keeps
    its traceback.
    """
