"""Reference rates: kernels that compute no MoE layer, and with whose FLOP/s the others are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

REFERENCES: Final[Mapping[str, str]] = {
    "matmul": "one plain matmul of the same FLOPs",
    "dense": "one dense expert of the same size",
}
"""The description of each reference. A suite has a reference only when it names it."""
