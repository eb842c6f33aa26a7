"""Kinds of files, known by how they begin, so that nothing is written over a file of another kind."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Final

from ...common.errors import UserError

RECORDS_START: Final = b'{"schema_version":'
PREDICTIONS_START: Final = b'{"kind":"prediction"'


class WouldOverwrite(UserError):
    """A file that must not be written over; the message names it and the remedy."""


class FileContent(StrEnum):
    """The kind of a file. A file that is missing, empty or no regular one holds nothing."""

    nothing = "nothing"
    records = "records"
    predictions = "predictions"
    other = "something else than records"


def content_of(path: Path) -> FileContent:
    """Return what a file holds; the first line of a killed run may be cut off anywhere."""
    try:
        if not path.is_file():
            return FileContent.nothing
        with path.open("rb") as file:
            start = file.read(len(BOM_UTF8) + max(len(RECORDS_START), len(PREDICTIONS_START))).removeprefix(BOM_UTF8)
    except OSError:
        return FileContent.nothing  # whoever reads or writes it will say why that fails
    if not start:
        return FileContent.nothing
    if _begins(start, RECORDS_START):
        return FileContent.records
    return FileContent.predictions if _begins(start, PREDICTIONS_START) else FileContent.other


def refuse_to_replace(path: Path, by: FileContent, read: Iterable[Path] = ()) -> None:
    """Refuse a file to write that is among those that were ``read``, or that holds what is not to be replaced ``by``.

    Records and predictions give way to nothing but themselves; predictions replace nothing but predictions.

    Raises:
        WouldOverwrite: when the file would be lost.
    """
    for source in read:
        if path.exists() and source.exists() and path.samefile(source):
            raise WouldOverwrite(f"{path} is what is read, and would be written over: give another --output")
    there = content_of(path)
    kept = {FileContent.records, FileContent.predictions} if by is FileContent.other else set(FileContent)
    if there in kept - {by, FileContent.nothing}:
        raise WouldOverwrite(f"{path} holds {there}, and would be written over: give another --output")


def refuse_no_place(path: Path) -> None:
    """Refuse a name that no file can have, before work that would be lost with it.

    Raises:
        UserError: when the name is that of a folder, or too long, or lies in a file.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: give the name of a file as --output")
        above = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:  # of a name that the file system cannot have
        raise UserError(f"{path}: {error.strerror}: give another --output") from error
    if not above.is_dir():
        raise UserError(f"{path} lies in {above}, which is no folder: give another --output")


def _begins(start: bytes, kind: bytes) -> bool:
    return start.startswith(kind) or kind.startswith(start)
