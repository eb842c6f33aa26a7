"""Conversion of rows to the bytes that are sent, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..problem.tensors import LEAST_SCALE, TORCH_DTYPES
from .wire_format import SCALED, WireRow


def pack(row: WireRow, rows_MD: Tensor, words: Sequence[Tensor] = ()) -> Tensor:
    """Pack rows of any float dtype and ``words``, int32 or float32 (M, any), into uint8 (M, bytes)."""
    buffer_MB = rows_MD.new_empty(len(rows_MD), row.bytes, dtype=torch.uint8)
    first = 0
    for word_MW in words:
        end = first + word_MW.shape[1]
        buffer_MB.view(word_MW.dtype)[:, first:end] = word_MW
        first = end
    if row.scales:
        scale_MS = _scales(rows_MD, TORCH_DTYPES[row.format])
        buffer_MB.view(torch.float32)[:, first : first + row.scales] = scale_MS
        rows_MD = rows_MD.float() / _spread(scale_MS, row.elements)
    _elements(row, buffer_MB).copy_(rows_MD)
    return buffer_MB


def unpack(row: WireRow, buffer_MB: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the elements as ``dtype``, (M, D); without a copy where they were sent in it, without words."""
    rows_MD = _elements(row, buffer_MB)
    if row.scales:
        scale_MS = unpack_words(buffer_MB, torch.float32, row.words, row.scales)
        rows_MD = rows_MD.float() * _spread(scale_MS, row.elements)
    return rows_MD.to(dtype).contiguous()


def unpack_words(buffer_MB: Tensor, dtype: torch.dtype, first: int, count: int) -> Tensor:
    """Return ``count`` words from the ``first`` on, int32 or float32 (M, count)."""
    return buffer_MB.view(dtype)[:, first : first + count].contiguous()


def _elements(row: WireRow, buffer_MB: Tensor) -> Tensor:
    dtype = TORCH_DTYPES[row.format]
    first = row.head_bytes // dtype.itemsize
    return buffer_MB.view(dtype)[:, first : first + row.elements]


def _scales(rows_MD: Tensor, dtype: torch.dtype) -> Tensor:
    """Return scales (M, D / 128 rounded up): the largest of every 128 elements becomes the dtype's largest number."""
    padded = functional.pad(rows_MD.float().abs(), (0, -rows_MD.shape[1] % SCALED))
    largest = padded.unflatten(1, (-1, SCALED)).amax(2) if padded.shape[1] else padded
    return (largest / torch.finfo(dtype).max).clamp_min(LEAST_SCALE)


def _spread(scale_MS: Tensor, elements: int) -> Tensor:
    return scale_MS.repeat_interleave(SCALED, dim=1)[:, :elements]
