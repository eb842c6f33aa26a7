"""Kernels that compute no MoE layer: reference rates, which others are compared with, and parts of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

REFERENCES: Final[Mapping[str, str]] = {
    "matmul": "one plain matmul of the same FLOPs",
    "dense": "one dense expert of the same size",
}
"""The description of each reference. A suite has a reference only when it names it."""

PARTS: Final[Mapping[str, str]] = {
    "router_alone": "the router alone",
}
"""The description of each part of a layer that is measured alone."""

NOT_COMPETING: Final = frozenset({*REFERENCES, *PARTS})
