"""Data sheets: what a model of time has to know of a GPU, and a configuration has not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Chip:
    """Of one GPU: dense FLOP/s by dtype and bytes/s of its memory at most, and what a processor meets on the way there.

    ``clock_hz`` is the clock of those FLOP/s. ``l2_bytes`` of the last cache before memory give ``l2_cycle_bytes`` a
    cycle to all processors together. A load takes ``l2_cycles`` from there and ``memory_cycles`` from memory, both
    with other loads under way. A warp has ``lanes``. Products on tensor cores are started by every ``warp``, by
    ``group`` of four warps, or by one thread for the whole ``block``; where not by the warp, tiles of less than 64
    rows still are, and reach ``warp_share`` of the FLOP/s. ``tf32`` is the rate of TF32 over that of float32.
    """

    name: str
    flops_per_s: Mapping[str, float]
    bytes_per_s: float
    clock_hz: float
    l2_bytes: int
    l2_cycle_bytes: int
    l2_cycles: int
    memory_cycles: int
    lanes: int = 32
    products: Literal["warp", "group", "block"]
    warp_share: float = 1.0
    tf32: float = 1.0


def _flops(*, float32: float, half: float, float8: float) -> dict[str, float]:
    """FLOP/s from TFLOP/s; float8 is that of half precision where the device has none."""
    return {
        "float32": float32 * 1e12,
        "float16": half * 1e12,
        "bfloat16": half * 1e12,
        "float8_e4m3fn": float8 * 1e12,
    }


# Rates, clocks and caches: NVIDIA's white papers on A100 and H100 and its Blackwell datasheet, dense and without
# sparsity; AMD's MI300X data sheet and its CDNA 3 white paper. Idle latencies of A100 and H100 are near 260 and 470
# cycles (Luo et al. 2024, "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture"); here memory's is twice
# that, as when it is nearly busy. MI300X: Chips and Cheese 2024.
CHIPS: dict[str, Chip] = {
    "sm_80": Chip(
        name="A100 SXM 80GB",
        flops_per_s=_flops(float32=19.5, half=312, float8=312),
        bytes_per_s=2.039e12,
        clock_hz=1.41e9,
        l2_bytes=40 << 20,
        l2_cycle_bytes=5120,
        l2_cycles=260,
        memory_cycles=900,
        products="warp",
        tf32=8.0,
    ),
    "sm_90": Chip(
        name="H100 SXM",
        flops_per_s=_flops(float32=66.9, half=989, float8=1979),
        bytes_per_s=3.35e12,
        clock_hz=1.83e9,
        l2_bytes=50 << 20,
        l2_cycle_bytes=5120,
        l2_cycles=260,
        memory_cycles=950,
        products="group",
        warp_share=0.62,  # of mma on it (Luo et al. 2024)
        tf32=7.4,
    ),
    # Two dies; no latencies and no rate of its cache are published: those of two H100s.
    "sm_100": Chip(
        name="B200",
        flops_per_s=_flops(float32=75, half=2250, float8=4500),
        bytes_per_s=8e12,
        clock_hz=1.85e9,
        l2_bytes=126 << 20,
        l2_cycle_bytes=2 * 5120,
        l2_cycles=300,
        memory_cycles=1100,
        products="block",
        warp_share=0.25,  # a warp's products are as wide as on A100
        tf32=15.0,
    ),
    # The last cache is the Infinity Cache; that of each die is nearer, smaller and not shared.
    "gfx942": Chip(
        name="MI300X",
        flops_per_s=_flops(float32=163.4, half=1307, float8=2615),
        bytes_per_s=5.3e12,
        clock_hz=2.1e9,
        l2_bytes=256 << 20,
        l2_cycle_bytes=8192,
        l2_cycles=600,
        memory_cycles=2000,
        lanes=64,
        products="warp",
    ),
}
"""By the name of the target."""
