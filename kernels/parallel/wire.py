"""Rows as bytes: a few words, then the elements in the format they travel in.

float8_e4m3fn has a float32 scale for every 128 elements of a row, as DeepSeek-V3 sends its tokens (DeepSeek-AI 2024,
section 3.3.2). It is for tokens on their way out; what comes back, and all gradients, travel as the tokens are held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..problem import Problem
from ..tensors import LEAST_SCALE, TORCH_DTYPES, token_dtype

WORD_BYTES = 4
SCALED = 128  # elements of a row that share a scale
FLOAT8 = torch.float8_e4m3fn


@dataclass(frozen=True, kw_only=True)
class Row:
    """The layout of a row: ``words`` of 4 bytes, scales where ``dtype`` wants them, ``elements`` in ``dtype``."""

    elements: int
    dtype: torch.dtype
    words: int = 0

    @property
    def bytes(self) -> int:
        """Of one row, rounded up to whole words."""
        payload = WORD_BYTES * (self.words + self._scales) + self.elements * self.dtype.itemsize
        return -(-payload // WORD_BYTES) * WORD_BYTES

    def pack(self, rows_MD: Tensor, words: Sequence[Tensor] = ()) -> Tensor:
        """Rows of any float dtype and ``words``, int32 or float32 (M, any), as uint8 (M, bytes)."""
        buffer_MB = rows_MD.new_empty(len(rows_MD), self.bytes, dtype=torch.uint8)
        first = 0
        for word_MW in words:
            end = first + word_MW.shape[1]
            buffer_MB.view(word_MW.dtype)[:, first:end] = word_MW
            first = end
        if self.dtype == FLOAT8:
            scale_MS = _scales(rows_MD)
            buffer_MB.view(torch.float32)[:, first : first + self._scales] = scale_MS
            rows_MD = rows_MD.float() / _spread(scale_MS, self.elements)
        self._elements(buffer_MB).copy_(rows_MD)
        return buffer_MB

    def unpack(self, buffer_MB: Tensor, dtype: torch.dtype) -> Tensor:
        """The elements as ``dtype``, (M, D), without a copy where they travelled as that and alone."""
        rows_MD = self._elements(buffer_MB)
        if self.dtype == FLOAT8:
            scale_MS = buffer_MB.view(torch.float32)[:, self.words : self.words + self._scales]
            rows_MD = rows_MD.float() * _spread(scale_MS, self.elements)
        return rows_MD.to(dtype).contiguous()

    def unpack_words(self, buffer_MB: Tensor, dtype: torch.dtype, first: int, count: int) -> Tensor:
        """``count`` words from the ``first`` on, int32 or float32 (M, count)."""
        return buffer_MB.view(dtype)[:, first : first + count].contiguous()

    @property
    def _scales(self) -> int:
        return -(-self.elements // SCALED) if self.dtype == FLOAT8 else 0

    def _elements(self, buffer_MB: Tensor) -> Tensor:
        first = WORD_BYTES * (self.words + self._scales) // self.dtype.itemsize
        return buffer_MB.view(self.dtype)[:, first : first + self.elements]


def _scales(rows_MD: Tensor) -> Tensor:
    """(M, D / 128 rounded up): the largest of every 128 elements becomes the largest there is."""
    padded = functional.pad(rows_MD.float().abs(), (0, -rows_MD.shape[1] % SCALED))
    largest = padded.unflatten(1, (-1, SCALED)).amax(2) if padded.shape[1] else padded
    return (largest / torch.finfo(FLOAT8).max).clamp_min(LEAST_SCALE)


def _spread(scale_MS: Tensor, elements: int) -> Tensor:
    return scale_MS.repeat_interleave(SCALED, dim=1)[:, :elements]


@dataclass(frozen=True, kw_only=True)
class Formats:
    """Rows of one call: a ``token`` with its routes, a ``plain`` row, the ``gradient`` of a token with its gates'."""

    token: Row
    plain: Row
    gradient: Row

    @staticmethod
    def of(problem: Problem, width: int) -> Formats:
        """With ``width`` routes beside every token."""
        held = token_dtype(problem)
        wire = held if problem.wire is None else TORCH_DTYPES[problem.wire]
        plain = held if wire == FLOAT8 else wire
        return Formats(
            token=Row(elements=problem.D, dtype=wire, words=2 * width),
            plain=Row(elements=problem.D, dtype=plain),
            gradient=Row(elements=problem.D, dtype=plain, words=width),
        )
