"""The problem: its shape, routers, loads, routes and tensors, and presets of published models."""

from .problem import (
    ALIGNMENTS,
    ELEMENT_BYTES,
    ROUNDING,
    ROUTE_BYTES,
    SCALE_BYTES,
    Activation,
    DropPolicy,
    DType,
    InvalidProblem,
    Mode,
    Problem,
)

__all__ = [
    "ALIGNMENTS",
    "ELEMENT_BYTES",
    "ROUNDING",
    "ROUTE_BYTES",
    "SCALE_BYTES",
    "Activation",
    "DType",
    "DropPolicy",
    "InvalidProblem",
    "Mode",
    "Problem",
]
