"""Archive of records: a file for each machine, named by its fingerprint, to which every run is added."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..record import Environment, Record
from ..record.store import Loaded, Store, load_all

DIGITS: Final = 16  # of a fingerprint


def machine(environment: Environment) -> str:
    """Return the fingerprint of a machine: a hash of its device, cores and memory, whatever software it has.

    It is hexadecimal, so no text of a record becomes part of a path.
    """
    facts = environment.device, environment.device_type, environment.cores, environment.memory_bytes
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:DIGITS]


def keep(folder: Path, records: Sequence[Record]) -> int:
    """Add records to the files of their machines, and return how many were new.

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
    """Read all kept records, machine by machine."""
    return load_all(sorted(folder.glob("*.jsonl")))
