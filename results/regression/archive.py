"""Kept records: a file for each machine, named by its fingerprint, to which the runs of later commits are added."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..record import Environment, Record
from ..record.store import Loaded, Store, load_all

DIGITS: Final = 16  # of a fingerprint


def machine(environment: Environment) -> str:
    """A machine's fingerprint, whatever software it has: of its device, cores and memory, in hexadecimal digits.

    Nothing that a record says becomes part of a path.
    """
    facts = environment.device, environment.device_type, environment.cores, environment.memory_bytes
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:DIGITS]


def keep(folder: Path, records: Sequence[Record]) -> int:
    """Add records to those of their machines; how many were not there yet.

    Raises:
        StoreError: when they cannot be written.
    """
    machines: dict[str, list[Record]] = {}
    for record in records:
        machines.setdefault(machine(record.environment), []).append(record)
    return sum(_add(folder / f"{name}.jsonl", made) for name, made in machines.items())


def _add(path: Path, records: Sequence[Record]) -> int:
    with Store(path) as store:
        known = {record.model_dump_json() for record in store.loaded.records}
        new = {line: record for record in records if (line := record.model_dump_json()) not in known}
        for record in new.values():
            store.append(record)
    return len(new)


def kept(folder: Path) -> Loaded:
    """All that was kept, machine by machine."""
    return load_all(sorted(folder.glob("*.jsonl")))
