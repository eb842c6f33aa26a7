"""The layout of rows that are sent: a few words, scales where the format has them, then the elements.

float8_e4m3fn has a float32 scale for every 128 elements of a row, as DeepSeek-V3 sends its tokens (DeepSeek-AI 2024,
section 3.3.2). Only dispatched tokens use it; results and all gradients are sent in the dtype of the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..problem import SCALE_BYTES, DType, Problem

FORMAT_BYTES: dict[DType, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}
WORD_BYTES = 4
COUNT_BYTES = 8  # counts travel as int64
SCALED = 128  # elements of a row that share a scale


@dataclass(frozen=True, kw_only=True)
class WireRow:
    """The layout of one row: ``words`` of 4 bytes, scales where ``format`` has them, ``elements`` in that format."""

    elements: int
    format: DType
    words: int = 0

    @property
    def scales(self) -> int:
        return -(-self.elements // SCALED) if self.format == "float8_e4m3fn" else 0

    @property
    def head_bytes(self) -> int:
        """Bytes before the elements."""
        return WORD_BYTES * self.words + SCALE_BYTES * self.scales

    @property
    def bytes(self) -> int:
        """Bytes of one row, rounded up to whole words."""
        payload = self.head_bytes + self.elements * FORMAT_BYTES[self.format]
        return -(-payload // WORD_BYTES) * WORD_BYTES


@dataclass(frozen=True, kw_only=True)
class Formats:
    """The layouts of one call: a ``token`` with its routes, a ``plain`` row, a token's ``gradient`` and its gates'."""

    token: WireRow
    plain: WireRow
    gradient: WireRow

    @staticmethod
    def of(problem: Problem, width: int) -> Formats:
        """Return the layouts with ``width`` routes beside every token."""
        wire = problem.wire or problem.held
        plain = problem.held if wire == "float8_e4m3fn" else wire
        return Formats(
            token=WireRow(elements=problem.D, format=wire, words=2 * width),
            plain=WireRow(elements=problem.D, format=plain),
            gradient=WireRow(elements=problem.D, format=plain, words=width),
        )
