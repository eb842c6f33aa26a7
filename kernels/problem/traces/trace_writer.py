"""Writer of traces: one file at once, with the same bytes for the same routes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ....common.files import write_whole
from .trace_format import (
    ABOUT,
    FORMAT,
    MOST_BYTES,
    VERSION,
    InvalidTrace,
    LayerRoutes,
    TraceDescription,
    check_description,
    check_steps,
    checked_gates,
    checked_ids,
)

BEGINNING = (1980, 1, 1, 0, 0, 0)  # the time in a zip of what has none: equal routes make equal files


def write_trace(
    path: str | Path,
    layers: Sequence[LayerRoutes],
    *,
    model: str = "",
    text: str = "",
    versions: Mapping[str, str] | None = None,
) -> None:
    """Write routes as one .npz file, replacing an older one. `trace_format` describes it.

    Ids and gate weights take the smallest of their types that holds every one of them exactly, so that nothing is lost.

    Raises:
        InvalidTrace: for routes that the reader would refuse; no file is written.
        OSError: when the file cannot be written.
    """
    about = TraceDescription(
        layers=tuple(one.layer for one in layers), model=model, text=text, versions=dict(versions or {})
    )
    where = ""
    try:
        check_description(about)
        said = {"format": FORMAT, "version": VERSION, **asdict(about)}
        arrays: dict[str, NDArray[Any]] = {ABOUT: np.frombuffer(json.dumps(said).encode(), np.uint8)}
        for place, one in enumerate(layers):
            where = f"in layer {one.layer.name} "
            ids_TK = np.maximum(checked_ids(np.asarray(one.ids_TK), one.layer.experts), -1)
            check_steps(ids_TK, one.layer)
            arrays[f"{place}.ids.npy"] = _smallest(ids_TK, np.dtype("<i2"), np.dtype("<i4"))
            if one.gates_TK is not None:
                gates_TK = checked_gates(np.asarray(one.gates_TK), ids_TK)
                arrays[f"{place}.gates.npy"] = _smallest(gates_TK, np.dtype("<f2"), np.dtype("<f4"))
    except ValueError as error:
        raise InvalidTrace(f"trace {path} {where}{error}") from error
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(name, BEGINNING)
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
    if content.tell() > MOST_BYTES:
        raise InvalidTrace(
            f"trace {path} has {content.tell():,} bytes: record fewer tokens or layers, for at most {MOST_BYTES:,}"
        )
    write_whole(Path(path), content.getvalue())


def write_ids(path: str | Path, ids: ArrayLike) -> None:
    """Write ids (tokens, K) alone, as a .npy file.

    Raises:
        InvalidTrace: for ids that the reader would refuse; no file is written.
        OSError: when the file cannot be written.
    """
    try:
        checked_TK = checked_ids(np.asarray(ids), None)
    except ValueError as error:
        raise InvalidTrace(f"trace {path} {error}") from error
    content = io.BytesIO()
    np.save(content, checked_TK, allow_pickle=False)
    write_whole(Path(path), content.getvalue())


def _smallest(values: NDArray[np.generic], *dtypes: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Return values in the first of these types that holds them exactly; the last one does."""
    for dtype in dtypes[:-1]:
        with np.errstate(over="ignore"):
            narrow: NDArray[np.generic] = values.astype(dtype)
        if (narrow == values).all():
            return narrow
    return values.astype(dtypes[-1])
