"""A tokenizer that needs no download: words and punctuation marks, hashed to ids of a fixed vocabulary.

Equal words have equal ids on every machine. Different words may share one: of the 5,870 words of the built-in text one
in six has the id of another, which merges rare words and hardly changes how often common ones come.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

VOCABULARY = 32768
"""Ids are below this number."""
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]|_")
"""Letters and digits, with apostrophes between them; or one other character that is no space."""


def token_ids(text: str) -> NDArray[np.int64]:
    """Return the ids of the words and punctuation marks of a text in their order, int64 (tokens,)."""
    return np.array([_id(word) for word in WORD.findall(text.lower())], dtype=np.int64)


@lru_cache(maxsize=1 << 16)
def _id(word: str) -> int:
    """Return the BLAKE2b hash of the word in UTF-8, modulo the vocabulary."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little") % VOCABULARY
