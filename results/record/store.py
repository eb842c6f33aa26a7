"""The store: one JSON Lines file, appended to as records are made, readable after a kill at any moment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from filelock import FileLock, Timeout
from pydantic import ValidationError

from ...common.errors import UserError
from ...common.files import utf8
from ...common.garbage import without_collections
from .file_content import FileContent, refuse_to_replace
from .record import SCHEMA, Record

LONGEST_LINE: Final = 2**26
"""Bytes of the longest line that is read, 64 MiB; a record has a hundredth. A device without line ends has more."""


class StoreError(UserError):
    """A file that cannot be used as a store; the message names it and the remedy."""


@dataclass(frozen=True)
class Loaded:
    """The records of a file in order, and for each line that is no record a sentence with its number."""

    records: list[Record]
    problems: list[str]


def load(path: Path) -> Loaded:
    """Read a file of records; unreadable lines are reported and the rest is kept.

    Raises:
        StoreError: when there is no such file, or it has a line that is longer than any of text.
        NotUtf8: when its text is in another encoding.
    """
    records, problems = [], []
    try:
        with path.open("rb") as file, without_collections():
            for number, line in enumerate(_lines(file, path), start=1):
                try:
                    records.append(Record.model_validate_json(utf8(line, path) if number == 1 else line))
                except ValidationError as error:
                    problems.append(f"{path}:{number}: {_why(error)}; the line is left out")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; give a file that `moebench run` wrote") from error
    if not records and len(problems) > 1:  # another file than was meant
        problems = [f"{problems[0]} (and {len(problems) - 1} more)"]
    return Loaded(records, problems)


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise StoreError(
                f"{path} has a line of more than {LONGEST_LINE >> 20} MiB; give a file that `moebench run` wrote"
            )
        yield line


def _why(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=True)[0]
    where = ".".join(str(part) for part in first["loc"])
    if where == "schema_version" and first["type"] != "missing":
        return f"schema {first['input']!r}, this moebench reads schemas 1 to {SCHEMA}"
    if first["type"] == "extra_forbidden":
        return f"the field {where} is of a newer moebench: install that one to read it"
    if where and isinstance(first["input"], int | float):
        where += f" = {first['input']!r}"
    return f"not a record ({where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')})"


class Store:
    """A file that one run appends to, a record a line, each in one write that reaches the disk.

    Use it as a context manager. A file left by a killed run is continued: what it holds is in ``loaded``, and a line
    cut off in the middle is closed so that the next record starts on its own.

    Raises:
        StoreError: on entry, when another run holds the file, or it is none or cannot be written.
        WouldOverwrite: on entry, when it holds something else than records.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded = Loaded([], [])
        target = path.resolve()  # so that a link is locked with what it points to
        self._lock = FileLock(target.with_name(f".{target.name}.lock"))
        self._file = -1

    def __enter__(self) -> Store:
        if self.path.exists() and not self.path.is_file():
            raise StoreError(f"{self.path} is no regular file; give an --output that can be written, and read again")
        refuse_to_replace(self.path, FileContent.records)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except Timeout:
            raise StoreError(f"{self.path}: another run is writing it; wait, or give another --output") from None
        except OSError as error:
            self._lock.release()
            raise StoreError(f"{self.path}: {error.strerror}; give an --output that can be written") from error
        size = self.path.stat().st_size
        if size:
            self.loaded = load(self.path)
            if os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")
        return self

    def append(self, record: Record) -> None:
        """Write one record and wait until it is on the disk.

        Raises:
            StoreError: when the disk takes no more.
        """
        line = (record.model_dump_json(exclude_none=True) + "\n").encode()
        try:
            written = os.write(self._file, line)
            os.fsync(self._file)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}; make room and run it again to continue") from error
        if written < len(line):
            raise StoreError(f"{self.path}: the disk is full; make room and run it again to continue")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
        self._lock.release()


def load_all(paths: Iterable[Path]) -> Loaded:
    """Read the records and problems of several files, in order."""
    loaded = [load(path) for path in paths]
    return Loaded([r for one in loaded for r in one.records], [p for one in loaded for p in one.problems])
