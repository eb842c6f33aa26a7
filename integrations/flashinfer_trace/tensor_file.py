"""Safetensors files: a writer of small ones, and a reader of one tensor that trusts nothing.

The format is that of huggingface/safetensors, README.md, section "Format", as of version 0.8: eight bytes with the
length of a header (little-endian), the header in JSON, from a tensor's name to its dtype, shape and the two ends of its
bytes behind the header, and those bytes. It is small enough to be written here: the package would be needed for nothing
else.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...common.errors import UserError

LONGEST_HEADER: Final = 1 << 24
MOST_BYTES: Final = 1 << 29  # of one tensor that is read, as of the arrays of a trace
MOST_AXES: Final = 8
ALIGNMENT: Final = 8  # the header is filled up with spaces, so that tensors begin at multiples
POINTER: Final = b"version https://git-lfs"
WRITTEN: Final[Mapping[str, str]] = {"<i4": "I32", "<f4": "F32"}
READ: Final[Mapping[str, str]] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
}


class InvalidTensorFile(UserError, ValueError):
    """A file that is no safetensors file, or lacks a tensor; the message names it and the remedy."""


def tensor_file(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the content of a safetensors file with these arrays, int32 or float32."""
    header, parts, end = {}, [], 0
    for name, array in arrays.items():
        data = np.asarray(array, array.dtype.newbyteorder("<"))
        content = data.tobytes()
        header[name] = {
            "dtype": WRITTEN[data.dtype.str],
            "shape": list(data.shape),
            "data_offsets": [end, end + len(content)],
        }
        parts.append(content)
        end += len(content)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return b"".join((len(text).to_bytes(8, "little"), text, *parts))


def read_tensor(path: Path, name: str) -> NDArray[Any]:
    """Return one tensor of a file; bfloat16 comes as float32. No more of the file is read than the header and it.

    Raises:
        InvalidTensorFile: when the file cannot be read, is damaged, or has no such tensor of numbers.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InvalidTensorFile(f"{path} is no file: give one that safetensors wrote")
        with path.open("rb") as file:
            start = file.read(max(8, len(POINTER)))
            if start.startswith(POINTER):
                raise InvalidTensorFile(f"{path} is a pointer of Git LFS: fetch the file with `git lfs pull`")
            length = int.from_bytes(start[:8], "little")
            if len(start) < 8 or length > min(LONGEST_HEADER, found.st_size - 8):
                raise _damaged(path, f"its header has {length:,} bytes, the file {found.st_size:,}")
            file.seek(8)
            dtype, shape, first, last = _place(path, _header(path, file.read(length)), name)
            if last > found.st_size - 8 - length:
                raise _damaged(path, f"{name!r:.80} ends behind the end of the file")
            file.seek(8 + length + first)
            content = file.read(last - first)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidTensorFile):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidTensorFile(f"{path}: {reason}: give a dataset with all of its files") from error
    values: NDArray[Any] = np.frombuffer(content, READ[dtype]).reshape(shape)
    return (values.astype("<u4") << 16).view("<f4") if dtype == "BF16" else values


def _header(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is no JSON ({error!s:.80})") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no object")
    return header


def _place(path: Path, header: Mapping[str, Any], name: str) -> tuple[str, tuple[int, ...], int, int]:
    """Return dtype, shape, and the ends of the bytes of a tensor, which fit each other."""
    if name not in header:
        raise InvalidTensorFile(f"{path} has no tensor {name!r:.80}: it has {', '.join(sorted(header))!s:.200}")
    entry = header[name]
    dtype = entry.get("dtype") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(dtype, str) or dtype not in READ:
        raise InvalidTensorFile(f"{path} has {name!r:.80} of dtype {dtype!r:.40}: give one of {', '.join(READ)}")
    shape, ends = _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if shape is None or ends is None or len(ends) != 2:
        raise _damaged(path, f"{name!r:.80} has no shape or no place")
    declared, found = math.prod(shape) * np.dtype(READ[dtype]).itemsize, ends[1] - ends[0]
    if declared != found:
        raise _damaged(path, f"{name!r:.80} has a shape of {declared!s:.30} bytes, and {found!s:.30} bytes")
    if found > MOST_BYTES:
        raise InvalidTensorFile(f"{path} has {name!r:.80} of {found:,} bytes: {MOST_BYTES:,} are read at most")
    return dtype, shape, ends[0], ends[1]


def _counts(values: object) -> tuple[int, ...] | None:
    """Return a list of JSON as counts, or None if it is another thing, or longer than any shape."""
    if not isinstance(values, list) or len(values) > MOST_AXES:
        return None
    return tuple(values) if all(type(one) is int and one >= 0 for one in values) else None


def _damaged(path: Path, why: str) -> InvalidTensorFile:
    return InvalidTensorFile(f"{path} is no safetensors file, or damaged: {why}: fetch it again")
