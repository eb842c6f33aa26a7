"""Files of tuned tables: derived from files of records, written, and checked against their records."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ...common.files import write_whole
from ...kernels.tuned.lookup import read
from ...kernels.tuned.tuned_table import (
    VALIDITY,
    InvalidTable,
    Origin,
    TunedTable,
)
from ...results.record.store import StoreError, load
from .build import Derived, derive

LONGEST_NAME: Final = 120  # characters of a file's name before its ending: file systems take 255


def derive_files(paths: Sequence[Path]) -> Derived:
    """Derive the tables of files of records, whose names and digests they hold.

    Raises:
        StoreError: when a file cannot be read.
    """
    loaded = [load(path) for path in paths]
    derived = derive(*(one.records for one in loaded), origins=[origin_of(path) for path in paths])
    return Derived(derived.tables, (*(problem for one in loaded for problem in one.problems), *derived.left_out))


def write(table: TunedTable, folder: Path) -> Path:
    """Write a table into a folder, whole or not at all, in place of an older one of the same measurements.

    Raises:
        StoreError: when the folder cannot be written.
    """
    path = folder / file_name(table)
    try:
        write_whole(path, table.text())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; set MOEBENCH_TUNED to a folder that can be written") from error
    return path


def file_name(table: TunedTable) -> str:
    """Return a file name from kernel, device and a digest of the measurements; a continued run keeps its name."""
    words = f"{table.kernel}.{table.environment['device']}"
    facts = [table.source, table.cache, *(table.environment[name] for name in VALIDITY), table.measured[0]]
    digest = hashlib.sha256(json.dumps([facts, sorted(origin.file for origin in table.origins)]).encode()).hexdigest()
    return f"{as_file_name(words)}.{digest[:8]}.json"


def as_file_name(words: str) -> str:
    """Return any words as a file name that is no path, without an ending."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", words).lstrip(".")[:LONGEST_NAME]


def check(path: Path, records: Sequence[Path]) -> list[str]:
    """Derive a table again from its records and return the differences in sentences; none where it is the same.

    ``records`` are files that include those it was derived from, which are found by their content.

    Raises:
        StoreError: when a file of records cannot be read.
    """
    try:
        table = read(path)
    except InvalidTable as error:
        return [f"{path}: {error}"]
    known = {origin_of(record): record for record in records}
    by_content = {origin.sha256: record for origin, record in known.items()}
    missing = [origin for origin in table.origins if origin.sha256 not in by_content]
    if missing or not table.origins:
        changed = {origin.file for origin in known}
        return [
            f"{path}: {origin.file} {'has changed since' if origin.file in changed else 'is not among the records'}"
            for origin in missing
        ] or [f"{path}: it names no records"]
    loaded = [load(by_content[origin.sha256]) for origin in table.origins]
    derived = derive(*(one.records for one in loaded), origins=table.origins)
    if any(again.text() == table.text() for again in derived.tables):
        return []
    return [f"{path}: it is not what its records say; derive it again"]


def origin_of(path: Path) -> Origin:
    try:
        return Origin(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; give a file of records") from error
