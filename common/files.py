"""Files that are written whole or not at all, and text that other programs have saved in their own encoding."""

from __future__ import annotations

import codecs
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .errors import UserError


class NotUtf8(UserError, ValueError):
    """The content of a file is text in another encoding; the message names the file and the remedy."""


class TooLong(UserError, ValueError):
    """A file longer than any that is meant, such as a device that never ends; the message names it and the remedy."""


LONGEST: Final = 2**26
"""Bytes of the longest text that is read at once, 64 MiB: more than any file of settings, text or trace has."""

GZIP: Final = b"\x1f\x8b"
"""Beginning of a file that gzip compressed (RFC 1952, section 2.3.1)."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file by ``content``, text in UTF-8, in one step: a reader sees the old content or the new one.

    Missing folders are made. The content goes to a hidden file in the same folder first, which takes the name at the
    end. Pipes and devices keep their place: they are written to.

    Raises:
        OSError: when the folder or the file cannot be written; the old content stays.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".draft")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner may read
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def write_new_folder(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Make a folder of files, by their names in it, in one step: all are there, or none is.

    Raises:
        UserError: when there is something of its name that is no empty folder, or it cannot be written.
    """
    try:
        if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
            raise UserError(f"{folder} is no empty folder: give the name of a new one")
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            for name, content in files.items():
                path = draft / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            draft.chmod(0o777 & ~_umask())  # mkdtemp makes folders that only their owner may enter
            draft.replace(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}: give the name of a folder that can be written") from error


def utf8(content: bytes, name: str | Path) -> bytes:
    """Return text in UTF-8 without the mark that some editors put before it; ``name`` is what an error calls the file.

    Raises:
        NotUtf8: when the text is in UTF-16, as the ``>`` of some shells writes it, or compressed.
    """
    if content.startswith(GZIP):
        raise NotUtf8(f"{name} is compressed: unpack it, as with gunzip")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise NotUtf8(f"{name} is text in UTF-16: save it as UTF-8")
    return content.removeprefix(codecs.BOM_UTF8)


def read_text(path: Path) -> str:
    """Return the text of a file that a user hands in, whichever program has saved it.

    Raises:
        OSError: when it cannot be read.
        NotUtf8: when it is in another encoding, or no text.
        TooLong: when it has more than `LONGEST` bytes.
    """
    with path.open("rb") as file:
        content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise TooLong(f"{path} has more than {LONGEST >> 20} MiB: give a file of text")
    try:
        return utf8(content, path).decode()
    except UnicodeDecodeError as error:
        raise NotUtf8(f"{path} is no text in UTF-8: save it as UTF-8") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
