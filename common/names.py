"""Names that a user gives: the error for one that is unknown, with the nearest valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from .errors import UserError


class UnknownName(UserError, ValueError):
    """A name that is not known; the message gives the nearest ones."""


def unknown(kind: str, name: str, known: Sequence[str]) -> UnknownName:
    """Return the error for an unknown name: it suggests the nearest valid names, or lists all when none is near."""
    folded = {valid.casefold(): valid for valid in known}
    near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.4)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    return UnknownName(f"no {kind} is named {name!r}: {hint}")
