"""The built-in text: Jane Austen, "Persuasion" (John Murray, London, 1817, dated 1818), whole, 466 kB of ASCII.

It is in the public domain everywhere: its author died in 1817. The text is that of the Debian package
r-cran-janeaustenr 1.0.0, without anything that a publisher added; spaces at the ends of lines are left out. As
`hashed_words` reads it, it has 98,181 tokens of 5,389 different ids, the most frequent of which is the comma.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .hashed_words import token_ids

FILE = "persuasion.txt"


def novel_text() -> str:
    """Return the text."""
    return Path(__file__).with_name(FILE).read_text(encoding="ascii")


@lru_cache(maxsize=1)
def novel_ids() -> NDArray[np.int64]:
    """Return the token ids of the text in their order, int64 (tokens,), read-only."""
    ids = token_ids(novel_text())
    ids.flags.writeable = False
    return ids
