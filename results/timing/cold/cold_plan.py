"""Decision how the caches of a CPU are made cold for calls: by rotating over sets of inputs, by a flush, or by both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..clock import FLUSH_FACTOR, MAX_COPIES, ROTATION_FACTOR, CallBytes
from .workspaces import SLACK

FRESH_COST: Final = 8  # bytes read in the time of writing one byte of fresh memory: 27 against 3.3 GB/s, measured
MEMORY_SHARE: Final = 0.25  # of the available memory may go into sets and workspaces: the calls need theirs too
LEAST_TOUCHED: Final = 48 << 20
"""Bytes that a call reads and allocates, below which caches are flushed: what rotation leaves warm, such as the code
and what libraries keep, makes a call of 15 ms 2 % faster."""


@dataclass(frozen=True, kw_only=True)
class ColdPlan:
    """``sets`` of inputs to rotate over, and bytes of the flush's buffer to read before each sample."""

    sets: int
    flush_bytes: int


def cold_plan(cache_bytes: int, footprint: CallBytes) -> ColdPlan:
    """Return the plan that takes the fewest bytes; with one set it is a whole flush before every sample.

    Between two uses of a set, twice the cache passes through it: inputs of the calls on the other sets, and what is
    read of the flush's buffer. More sets cost memory that is written once; they save reading before each sample.
    """
    touched = footprint.read_bytes + footprint.workspace_bytes
    sets = range(1, MAX_COPIES + 1) if touched >= LEAST_TOUCHED else range(1, 2)
    return min(
        (
            plan
            for plan in (ColdPlan(sets=count, flush_bytes=_flushed(cache_bytes, footprint, count)) for count in sets)
            if plan.sets == 1 or _kept(footprint, plan) <= MEMORY_SHARE * footprint.available_bytes
        ),
        key=lambda plan: FRESH_COST * _kept(footprint, plan) + footprint.samples * plan.flush_bytes,
    )


def _flushed(cache_bytes: int, footprint: CallBytes, sets: int) -> int:
    """Return the bytes to read before each sample, so that a set's turn comes when the caches hold nothing of it."""
    if sets == 1:
        return FLUSH_FACTOR * cache_bytes
    return max(0, -(-(ROTATION_FACTOR * cache_bytes - (sets - 1) * footprint.read_bytes) // sets))


def _kept(footprint: CallBytes, plan: ColdPlan) -> int:
    """Return the bytes of the sets besides the first, and of a workspace for each set."""
    if plan.sets == 1:
        return 0
    return (plan.sets - 1) * footprint.held_bytes + plan.sets * SLACK * footprint.workspace_bytes
