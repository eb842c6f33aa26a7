"""Measured rates of a CPU beyond those of a lower bound: what its cost model needs to rank implementations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from .roofline import MachineRates

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FRESH_BYTES = 64 << 20  # more than glibc ever keeps for a process: every call gets new pages
TILE = (256, 2048)  # rows, and both halves of their columns: the operands stay in the caches of two cores


@dataclass(frozen=True, kw_only=True)
class CpuRates:
    """FLOP/s of products and elements/s of a gated activation by dtype, bytes/s of memory, and of new pages of it.

    ``disturbed`` says that others used the cores whenever one of them was measured: it may be higher.
    """

    products: Mapping[str, float]
    pointwise: Mapping[str, float]
    bytes_per_s: float
    fresh_bytes_per_s: float
    disturbed: bool


def cpu_rates(machine: MachineRates) -> CpuRates:
    """Measure a CPU, in about two seconds; ``machine`` may have measured a part of it."""
    machine.disturbed = machine.roofline(torch.float32).disturbed  # which measures the memory, unless it has been
    return CpuRates(
        products={_name(dtype): machine.product_rate(dtype) for dtype in DTYPES},
        pointwise={_name(dtype): _activation_rate(machine, dtype) for dtype in DTYPES},
        bytes_per_s=machine.memory.best,
        fresh_bytes_per_s=_fresh_rate(machine),
        disturbed=machine.disturbed,
    )


def _activation_rate(machine: MachineRates, dtype: torch.dtype) -> float:
    """Return the elements/s of silu of one half of some rows, times the other, in place."""
    rows, columns = TILE
    gate, up = torch.ones(rows, columns, dtype=dtype).chunk(2, dim=-1)
    return rows * columns / 2 / machine.fastest(lambda: functional.silu(gate, inplace=True).mul_(up))


def _fresh_rate(machine: MachineRates) -> float:
    """Return the bytes/s of new memory, over what writing it takes anyway."""
    kept = torch.empty(FRESH_BYTES, dtype=torch.uint8)
    old_s = machine.fastest(lambda: kept.fill_(1))
    new_s = machine.fastest(lambda: torch.empty(FRESH_BYTES, dtype=torch.uint8).fill_(1))
    # Where new memory takes no time, as with huge pages, its rate is that of a copy or more.
    return FRESH_BYTES / max(new_s - old_s, old_s / 100)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
