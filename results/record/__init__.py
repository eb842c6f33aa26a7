"""Records: what one trial left, the file that keeps them, the environment of a record, and predictions."""

from .record import (
    SCHEMA,
    CacheState,
    Clocks,
    Environment,
    Error,
    Launches,
    Memory,
    Phases,
    Point,
    Record,
    Roofline,
    Status,
    Timing,
    Traffic,
    Work,
)

__all__ = [
    "SCHEMA",
    "CacheState",
    "Clocks",
    "Environment",
    "Error",
    "Launches",
    "Memory",
    "Phases",
    "Point",
    "Record",
    "Roofline",
    "Status",
    "Timing",
    "Traffic",
    "Work",
]
