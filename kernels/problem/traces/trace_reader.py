"""Reader of traces: strict, since a trace may come from anywhere. Nothing in a file is executed.

Sizes are compared with what a file declares before anything is unpacked, and only the layer that is asked for is.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .trace_format import (
    ABOUT,
    FORMAT,
    MOST_BYTES,
    MOST_LAYERS,
    VERSION,
    InvalidTrace,
    LayerDescription,
    LayerRoutes,
    TraceDescription,
    check_description,
    check_steps,
    checked_gates,
    checked_ids,
)

DIGITS = 8
MOST_ABOUT = 1 << 24  # bytes of the description
READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
REMEDY = "write it with `moebench trace record`, or ids alone with numpy.save"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def content_of(path: str | Path) -> bytes:
    """Return the content of a file that may be a trace.

    Raises:
        InvalidTrace: when the file cannot be read or is too large.
    """
    try:
        found = Path(path).stat()
        size, mode = found.st_size, found.st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # reading a pipe or a device might never end
            raise InvalidTrace(f"trace {path} is a pipe or a device: give a file")
        if size > MOST_BYTES:
            raise InvalidTrace(f"trace {path} has {size:,} bytes: record fewer tokens, for at most {MOST_BYTES:,}")
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidTrace):
            raise
        reason = error.strerror if isinstance(error, OSError) else error  # as of a path with a NUL
        raise InvalidTrace(
            f"trace {path}: {reason}: give a file of `moebench trace record`, or a .npy file of expert ids (tokens, K)"
        ) from error


def digest_of(content: bytes) -> str:
    """Return the first 8 hexadecimal digits of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def describe(content: bytes, path: str | Path) -> TraceDescription:
    """Return what a trace with this content says of itself; ``path`` is for messages.

    Raises:
        InvalidTrace: naming the file, what is wrong and the remedy.
    """
    if not _is_zip(content):
        ids = _ids_alone(content, path)
        return TraceDescription(layers=(LayerDescription(name="", experts=None, steps=(len(ids),)),))
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            about = _about(archive)
            _check_members(archive, about)
            return about
    except Exception as error:  # a damaged file fails in any part of the parsers of zip, deflate and JSON
        raise _refused(error, path) from error


def read_layer(content: bytes, path: str | Path, layer: str = "") -> LayerRoutes:
    """Return the routes of the layer with this name or number (`TraceDescription.find`); ``path`` is for messages.

    Raises:
        InvalidTrace: as `describe`, and when there is no such layer, or its arrays are damaged.
    """
    about = describe(content, path)
    try:
        place = about.find(layer)
        one = about.layers[place]
        if not _is_zip(content):
            return LayerRoutes(layer=one, ids_TK=_ids_alone(content, path))
    except ValueError as error:
        raise _refused(error, path) from error
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _routes(archive, place, one)
    except Exception as error:
        raise _refused(error, path, f"in layer {one.name} ") from error


def _is_zip(content: bytes) -> bool:
    return content.startswith(b"PK")


def _refused(error: Exception, path: str | Path, where: str = "") -> InvalidTrace:
    if isinstance(error, InvalidTrace):
        return error
    if isinstance(error, zipfile.BadZipFile | zlib.error | EOFError | NotImplementedError | RuntimeError | MemoryError):
        return InvalidTrace(f"trace {path} {where}is damaged ({str(error) or type(error).__name__}): {REMEDY}")
    return InvalidTrace(f"trace {path} {where}{error}")


def _ids_alone(content: bytes, path: str | Path) -> NDArray[np.int32]:
    try:
        ids = _array(content)
    except Exception as error:  # a damaged header fails in any part of numpy's parser
        raise InvalidTrace(f"trace {path} is not a .npy file of numbers ({error}): {REMEDY}") from error
    try:
        return checked_ids(ids, None)
    except ValueError as error:
        raise _refused(error, path) from error


def _array(content: bytes) -> NDArray[Any]:
    """Return the array of a .npy file, a view of its content.

    Raises:
        ValueError: when the header is damaged, or declares more or fewer bytes than follow it.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"its version is {version}")
    shape, by_column, dtype = HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it has Python objects, which are never loaded")
    declared, found = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if declared != found:
        raise ValueError(f"its header declares {declared:,} bytes, and {found:,} follow")
    flat: NDArray[Any] = np.frombuffer(content, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if by_column else "C")


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    """Unpack no byte more than a member declares, which was checked before; its checksum is compared at its end."""
    size = archive.getinfo(name).file_size
    with archive.open(name) as file:
        return file.read(size)


def _sizes(archive: zipfile.ZipFile) -> dict[str, int]:
    """Return the unpacked size of every member, whose ways of packing are checked.

    Raises:
        ValueError: for a member that no trace has.
    """
    members = archive.infolist()
    if len(members) > 1 + 2 * MOST_LAYERS:
        raise ValueError(f"has {len(members):,} arrays: {REMEDY}")
    sizes: dict[str, int] = {}
    for member in members:
        if member.filename in sizes:
            raise ValueError(f"has {member.filename!r:.80} twice: {REMEDY}")
        if member.compress_type not in READABLE or member.flag_bits & 1:
            raise ValueError(f"has {member.filename!r:.80} packed or encrypted in a way that no trace is: {REMEDY}")
        sizes[member.filename] = member.file_size
    return sizes


def _about(archive: zipfile.ZipFile) -> TraceDescription:
    sizes = _sizes(archive)
    if ABOUT not in sizes:
        raise ValueError(f"is no trace: it has no {ABOUT}: {REMEDY}")
    if sizes[ABOUT] > MOST_ABOUT:
        raise ValueError(f"describes itself in {sizes[ABOUT]:,} bytes: {REMEDY}, for at most {MOST_ABOUT:,}")
    try:
        given = json.loads(_array(_unpacked(archive, ABOUT)).astype(np.uint8, casting="safe").tobytes())
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"has an {ABOUT} that is no JSON ({error}): {REMEDY}") from error
    if not isinstance(given, dict) or given.get("format") != FORMAT:
        raise ValueError(f"is no trace: {ABOUT} names another format: {REMEDY}")
    if given.get("version") != VERSION:
        raise ValueError(
            f"has version {given.get('version')!r:.20} of the format, and this moebench reads {VERSION}: "
            "update moebench, or record it again"
        )
    try:
        about = TraceDescription(
            model=_of_type(given["model"], str),
            text=_of_type(given["text"], str),
            versions={name: _of_type(text, str) for name, text in _of_type(given["versions"], dict).items()},
            layers=tuple(_layer(_of_type(one, dict)) for one in _of_type(given["layers"], list)),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"has an {ABOUT} with something missing or of another type ({error}): {REMEDY}") from error
    check_description(about)
    return about


def _layer(given: Mapping[str, Any]) -> LayerDescription:
    return LayerDescription(
        name=_of_type(given["name"], str),
        experts=_of_type(given["experts"], int),
        steps=tuple(_of_type(tokens, int) for tokens in _of_type(given["steps"], list)),
    )


def _of_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:60]!r} is no {kind.__name__}")
    return value


def _check_members(archive: zipfile.ZipFile, about: TraceDescription) -> None:
    """Check that there are ids for every layer, nothing that is of no layer, and that each layer fits in memory."""
    sizes = _sizes(archive)
    left = set(sizes) - {ABOUT}
    for place, one in enumerate(about.layers):
        ids, gates = f"{place}.ids.npy", f"{place}.gates.npy"
        if ids not in sizes:
            raise ValueError(f"has no {ids}, the ids of layer {one.name}: {REMEDY}")
        size = sizes[ids] + sizes.get(gates, 0)
        if size > MOST_BYTES:
            raise ValueError(
                f"declares {size:,} bytes for layer {one.name}: record fewer tokens, for at most {MOST_BYTES:,}"
            )
        left -= {ids, gates}
    if left:
        raise ValueError(f"has {min(left)!r:.80}, which is of no layer: {REMEDY}")


def _routes(archive: zipfile.ZipFile, place: int, one: LayerDescription) -> LayerRoutes:
    ids_TK = checked_ids(_member(archive, f"{place}.ids.npy"), one.experts)
    check_steps(ids_TK, one)
    gates = f"{place}.gates.npy"
    if gates not in archive.namelist():
        return LayerRoutes(layer=one, ids_TK=ids_TK)
    return LayerRoutes(layer=one, ids_TK=ids_TK, gates_TK=checked_gates(_member(archive, gates), ids_TK))


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    content = _unpacked(archive, name)
    try:
        return _array(content)
    except Exception as error:  # a damaged header fails in any part of numpy's parser
        raise ValueError(f"has a {name} that is no array of numbers ({error}): {REMEDY}") from error
