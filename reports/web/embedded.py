"""Data inside a page: raw records and further plots, compressed so that scripts can read them when they are asked for.

A block is the base64 of gzip, so nothing in it can end the element that holds it.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ...results.record import Record
from ..numbers import counted, number_of

EMBEDDED_BYTES: Final = 2_000_000
"""Most characters of raw records in a page, which with its tables and plots is to stay under 5 MB."""

IN_BLOCK: Final = 250
"""Records of one block: what a browser decompresses in some milliseconds when one of them is asked for."""

SEPARATOR: Final = "\x1e"
"""Between two records (RFC 7464); within JSON it can only stand escaped."""

_NUMBERS: Final = re.compile(r"\[\n\s*([^\[\]{}\"]*?)\n\s*\]")  # no string of JSON has a line break in it
_UNPRINTABLE: Final = re.compile(r"[^\n\x20-\x7e]")


def compressed(text: str) -> str:
    """Return text as the base64 of gzip; the same text gives the same block."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@dataclass(frozen=True)
class EmbeddedRecords:
    """Records in blocks of `IN_BLOCK`, in order; ``left_out`` counts those after them that the page does not hold."""

    blocks: Sequence[str]
    left_out: int

    @property
    def sentence(self) -> str:
        """Say which records are not in the page and where they are; nothing where all are."""
        if not self.left_out:
            return ""
        held = number_of(len(self.blocks) * IN_BLOCK)
        return (
            f"The page holds the raw records of the first {held} trials. {counted(self.left_out, 'record')} after them "
            "would make it too large: they are the last lines of the files that it was made from, one trial a line, "
            "and a report of fewer files holds them all."
        )


def embedded(records: Sequence[Record], most: int = EMBEDDED_BYTES) -> EmbeddedRecords:
    """Return records as blocks of readable JSON, up to ``most`` characters of blocks."""
    blocks: list[str] = []
    room = most
    for first in range(0, len(records), IN_BLOCK):
        block = compressed(SEPARATOR.join(map(readable, records[first : first + IN_BLOCK])))
        room -= len(block)
        if room < 0:
            return EmbeddedRecords(blocks, len(records) - first)
        blocks.append(block)
    return EmbeddedRecords(blocks, 0)


def readable(record: Record) -> str:
    """Return a record as JSON to be read: indented, numbers of a list on one line.

    Characters that do not print, which could hide or reorder text, are escaped.
    """
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", record.model_dump_json(indent=2))
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text)
