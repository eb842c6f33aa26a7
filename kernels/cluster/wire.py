"""Bytes of a row that travels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from ..problem import ROUTE_BYTES, SCALE_BYTES, InvalidProblem, Problem

Format = Literal["float32", "float16", "bfloat16", "float8_e4m3fn"]
"""The dtype in which rows travel."""

BYTES: dict[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}
SCALED = 128  # elements that share a float32 scale in float8
GATE_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Wire:
    """Rows of ``width`` elements in a format; those of float8 come back, and their gradients travel, in bfloat16."""

    width: int
    format: Format

    @staticmethod
    def of(problem: Problem, name: str | None) -> Wire:
        """The named format, by default that of the problem's tokens.

        Raises:
            InvalidProblem: for a format that is none.
        """
        own = "bfloat16" if problem.quantised else problem.dtype
        for known in get_args(Format):
            if known == (name or own):
                return Wire(width=problem.D, format=known)
        raise InvalidProblem(f"wire = {name!r}: give one of {', '.join(get_args(Format))}")

    def there(self, routes: int) -> int:
        """Bytes of a dispatched row with the ids and gates of its routes."""
        scales = SCALE_BYTES * math.ceil(self.width / SCALED) if self.format == "float8_e4m3fn" else 0
        return self.width * BYTES[self.format] + scales + routes * ROUTE_BYTES

    @property
    def back(self) -> int:
        """Bytes of a row that comes back, and of the gradient of one."""
        return self.width * max(BYTES[self.format], BYTES["bfloat16"])

    def gradient(self, routes: int) -> int:
        """Bytes of the gradient of a dispatched row with those of its gates."""
        return self.back + routes * GATE_BYTES
