"""The table of GPUs: names, limits, data sheets and latencies. A new GPU is one entry of `GPUS`.

The table has the names and the shared memory of every GPU. For each compiler target, kernels are compiled for one GPU
that represents all others of the target; for that GPU the table has everything else too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .occupancy import ProcessorLimits


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Limits that decide which configurations can be built, and how many programs are started.

    ``processors`` run programs side by side; ``shared_bytes`` is the shared memory of one program.
    ``tensor_descriptors``: tiles are copied by the hardware (TMA). ``specialised_tile``: elements of the largest tile
    for which Triton can set some warps apart to copy; 0 where it cannot. ``float8``: it multiplies float8_e4m3fn.
    ``target``: the compiler target whose data sheet holds.
    """

    target: str
    processors: int
    shared_bytes: int
    tensor_descriptors: bool
    specialised_tile: int
    float8: bool
    maker: str = "nvidia"


@dataclass(frozen=True, kw_only=True)
class DataSheet:
    """Peak rates and cache latencies, for the static cost model.

    ``flops_per_s`` are dense FLOP/s by dtype at ``clock_hz``; ``bytes_per_s`` is the bandwidth of memory, of which
    there are ``memory_bytes``. The last cache before memory, of ``l2_bytes``, gives ``l2_cycle_bytes`` a cycle to all
    processors together. A load takes ``l2_cycles`` from there and ``memory_cycles`` from memory, both with other loads
    under way. A warp has ``lanes``. Products on tensor cores are started by every ``warp``, by a ``group`` of four
    warps, or by one thread for the whole ``block``; where not by the warp, tiles of less than 64 rows still are, and
    reach ``warp_share`` of the FLOP/s.
    ``tf32`` is the rate of TF32 over that of float32.
    """

    name: str
    flops_per_s: Mapping[str, float]
    bytes_per_s: float
    memory_bytes: int
    clock_hz: float
    l2_bytes: int
    l2_cycle_bytes: int
    l2_cycles: int
    memory_cycles: int
    lanes: int = 32
    products: Literal["warp", "group", "block"]
    warp_share: float = 1.0
    tf32: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU, or several that differ in nothing of this.

    ``names`` are the words by which drivers and file names know it, as alternatives of a regular expression.
    ``shared_bytes`` is the shared memory that one program may have. ``target`` is the compiler target whose data sheet
    holds for it, None where there is none. ``data_sheet`` is its own where its rates or its memory are others.
    """

    names: str
    shared_bytes: int
    target: str | None = None
    data_sheet: DataSheet | None = None


@dataclass(frozen=True, kw_only=True)
class TargetGpu:
    """A GPU that kernels are compiled for, with all its figures; it represents its compiler target."""

    names: str
    hardware: Hardware
    data_sheet: DataSheet
    processor: ProcessorLimits

    @property
    def gpu(self) -> Gpu:
        """The facts that other GPUs have too."""
        return Gpu(
            names=self.names,
            shared_bytes=self.hardware.shared_bytes,
            target=self.hardware.target,
            data_sheet=self.data_sheet,
        )


def _flops(*, float32: float, half: float, float8: float) -> dict[str, float]:
    """Return FLOP/s from TFLOP/s; float8 is that of half precision where the device has none."""
    return {
        "float32": float32 * 1e12,
        "float16": half * 1e12,
        "bfloat16": half * 1e12,
        "float8_e4m3fn": float8 * 1e12,
    }


# Sources. Limits: CUDA C++ Programming Guide, technical specifications by compute capability (163 KiB of shared memory
# for 8.0 and 8.7, 99 for 8.6, 8.9 and 12.x, 227 for 9.0 and 10.x); PTX ISA, tcgen05.alloc; AMD's CDNA instruction set
# guides (64 KiB up to CDNA 3, 160 in CDNA 4; 16 barriers, one for a program of several warps). GPUs older than A100 and
# MI300X have no copies in flight. Rates, clocks and caches: NVIDIA's white papers on A100 and H100, its Blackwell data
# sheet, dense and without sparsity; AMD's MI300X data sheet and its CDNA 3 white paper. Idle latencies of A100 and H100
# are near 260 and 470 cycles (Luo et al. 2024, "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture"); here
# memory's is twice that, as when it is nearly busy. MI300X: Chips and Cheese 2024.
_AMPERE = ProcessorLimits(warps=16, programs=32, shared_bytes=164 << 10, shared_step=128, reserved_bytes=1 << 10)
_HOPPER = dataclasses.replace(_AMPERE, shared_bytes=228 << 10)
_H100 = DataSheet(
    name="H100 SXM",
    flops_per_s=_flops(float32=66.9, half=989, float8=1979),
    bytes_per_s=3.35e12,
    memory_bytes=80 * 10**9,
    clock_hz=1.83e9,
    l2_bytes=50 << 20,
    l2_cycle_bytes=5120,
    l2_cycles=260,
    memory_cycles=950,
    products="group",
    warp_share=0.62,  # of mma on it (Luo et al. 2024)
    tf32=7.4,
)

GPUS: tuple[Gpu | TargetGpu, ...] = (
    TargetGpu(
        names="A100",
        hardware=Hardware(
            target="sm_80",
            processors=108,
            shared_bytes=163 << 10,
            tensor_descriptors=False,
            specialised_tile=0,
            float8=False,
        ),
        data_sheet=DataSheet(
            name="A100 SXM 80GB",
            flops_per_s=_flops(float32=19.5, half=312, float8=312),
            bytes_per_s=2.039e12,
            memory_bytes=80 * 10**9,
            clock_hz=1.41e9,
            l2_bytes=40 << 20,
            l2_cycle_bytes=5120,
            l2_cycles=260,
            memory_cycles=900,
            products="warp",
            tf32=8.0,
        ),
        processor=_AMPERE,
    ),
    Gpu(names="A800", shared_bytes=163 << 10, target="sm_80"),
    Gpu(names="A30", shared_bytes=163 << 10),
    TargetGpu(
        names="H100|H800|GH200",
        hardware=Hardware(
            target="sm_90",
            processors=132,
            shared_bytes=227 << 10,
            tensor_descriptors=True,
            # Triton's pass leaves eight warps as they are and fails on what four warps of products cannot hold.
            specialised_tile=64 * 128,
            float8=True,
        ),
        data_sheet=_H100,
        processor=_HOPPER,
    ),
    Gpu(
        names="H200",
        shared_bytes=227 << 10,
        target="sm_90",
        data_sheet=dataclasses.replace(_H100, name="H200 SXM", bytes_per_s=4.8e12, memory_bytes=141 * 10**9),
    ),
    Gpu(
        names="H20",
        shared_bytes=227 << 10,
        target="sm_90",
        data_sheet=dataclasses.replace(
            _H100,
            name="H20",
            flops_per_s=_flops(float32=44, half=148, float8=296),
            bytes_per_s=4.0e12,
            memory_bytes=96 * 10**9,
        ),
    ),
    # Two dies; neither latencies nor the rate of its cache are published: those of two H100s.
    TargetGpu(
        names="B200|GB200",
        hardware=Hardware(
            target="sm_100",
            processors=148,
            shared_bytes=227 << 10,
            tensor_descriptors=True,
            specialised_tile=128 * 256,
            float8=True,
        ),
        data_sheet=DataSheet(
            name="B200",
            flops_per_s=_flops(float32=75, half=2250, float8=4500),
            bytes_per_s=8e12,
            memory_bytes=180 * 10**9,
            clock_hz=1.85e9,
            l2_bytes=126 << 20,
            l2_cycle_bytes=2 * 5120,
            l2_cycles=300,
            memory_cycles=1100,
            products="block",
            warp_share=0.25,  # a warp's products are as wide as on A100
            tf32=15.0,
        ),
        processor=dataclasses.replace(_HOPPER, tensor_columns=512),
    ),
    Gpu(names="B100|B300|GB300", shared_bytes=227 << 10),
    Gpu(names="L40S|L40|L20|L4|L2|Ada|A10|A10G|A40|A6000|GB10", shared_bytes=99 << 10),
    Gpu(names=r"RTX_[345]0\d\d|RTX_PRO_\d000", shared_bytes=99 << 10),
    # The last cache is the Infinity Cache; that of each die is nearer, smaller and not shared. Its float8 is another,
    # float8_e4m3fnuz.
    TargetGpu(
        names="MI300X",
        hardware=Hardware(
            target="gfx942",
            processors=304,
            shared_bytes=64 << 10,
            tensor_descriptors=False,
            specialised_tile=0,
            float8=False,
            maker="amd",
        ),
        data_sheet=DataSheet(
            name="MI300X",
            flops_per_s=_flops(float32=163.4, half=1307, float8=2615),
            bytes_per_s=5.3e12,
            memory_bytes=192 * 10**9,
            clock_hz=2.1e9,
            l2_bytes=256 << 20,
            l2_cycle_bytes=8192,
            l2_cycles=600,
            memory_cycles=2000,
            lanes=64,
            products="warp",
        ),
        processor=ProcessorLimits(warps=8, programs=16, shared_bytes=64 << 10, shared_step=512, reserved_bytes=0),
    ),
    Gpu(names="MI325X|MI325", shared_bytes=64 << 10, target="gfx942"),
    Gpu(names="MI300A", shared_bytes=64 << 10),
    Gpu(names="MI100|MI210|MI250|MI250X|MI308X", shared_bytes=64 << 10),
    Gpu(names="MI350X|MI355X|MI350|MI355", shared_bytes=160 << 10),
)

_TARGETS = {gpu.hardware.target: gpu for gpu in GPUS if isinstance(gpu, TargetGpu)}
HARDWARE: dict[str, Hardware] = {target: gpu.hardware for target, gpu in _TARGETS.items()}
"""Limits by target, such as ``sm_90``."""
DATA_SHEETS: dict[str, DataSheet] = {target: gpu.data_sheet for target, gpu in _TARGETS.items()}
"""Data sheets by target."""
PROCESSORS: dict[str, ProcessorLimits] = {target: gpu.processor for target, gpu in _TARGETS.items()}
"""Limits of one processor by target."""


def gpu_named(name: str) -> Gpu | None:
    """Return the GPU of a device name such as ``NVIDIA H100 80GB HBM3`` or ``NVIDIA_H100_80GB_HBM3``, or None."""
    for entry in GPUS:
        if re.search(rf"(?<![A-Za-z0-9])(?:{entry.names})(?![A-Za-z0-9])", name.replace(" ", "_")):
            return entry.gpu if isinstance(entry, TargetGpu) else entry
    return None


def data_sheet_of(device_name: str) -> DataSheet | None:
    """Return the data sheet of a device, its own or that of its compiler target, or None when there is none."""
    gpu = gpu_named(device_name)
    if gpu is None or gpu.target is None:
        return None
    return gpu.data_sheet or DATA_SHEETS[gpu.target]


def target_of(device_name: str) -> str | None:
    """Return the compiler target whose data sheet holds for a device, or None when none does."""
    gpu = gpu_named(device_name)
    return gpu.target if gpu else None
