"""Bytes of a row that travels."""

from __future__ import annotations

from dataclasses import dataclass

from ..problem import SCALE_BYTES, DType, Problem

BYTES: dict[DType, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}
SCALED = 128  # elements that share a float32 scale in float8
WORD_BYTES = 4  # an id or a gate; rows are whole words


@dataclass(frozen=True, kw_only=True)
class Wire:
    """Rows of ``width`` elements, dispatched in one format; they come back, and gradients travel, in another."""

    width: int
    there: DType
    back: DType

    @staticmethod
    def of(problem: Problem) -> Wire:
        """As `Problem.wire` says: float8 is for tokens on their way out only, the rest travels as it is held."""
        held: DType = "bfloat16" if problem.quantised else problem.dtype
        there = problem.wire or held
        return Wire(width=problem.D, there=there, back=held if there == "float8_e4m3fn" else there)

    def dispatched(self, routes: int) -> int:
        """Bytes of a dispatched row with the ids and gates of its routes."""
        scales = -(-self.width // SCALED) if self.there == "float8_e4m3fn" else 0
        return _whole(self.width * BYTES[self.there] + scales * SCALE_BYTES + 2 * routes * WORD_BYTES)

    @property
    def returned(self) -> int:
        """Bytes of a row that comes back, and of its gradient."""
        return _whole(self.width * BYTES[self.back])

    def gradient(self, routes: int) -> int:
        """Bytes of the gradient of a dispatched row with those of its gates."""
        return _whole(self.width * BYTES[self.back] + routes * WORD_BYTES)


def _whole(size: int) -> int:
    return -(-size // WORD_BYTES) * WORD_BYTES
