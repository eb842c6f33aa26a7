"""What a configuration has to know of the device it is for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """``processors`` that run programs side by side, shared memory in bytes for one program, and what it can do.

    ``tensor_descriptors``: tiles are copied by the hardware (TMA). ``specialised_tile``: elements of the largest tile
    for which Triton can set some warps apart to copy; 0 where it cannot. ``float8``: it multiplies float8_e4m3fn.
    ``target``: the GPU of this table whose data sheet speaks for it.
    """

    target: str
    processors: int
    shared_bytes: int
    tensor_descriptors: bool
    specialised_tile: int
    float8: bool
    maker: str = "nvidia"


HARDWARE: dict[str, Hardware] = {
    # NVIDIA's A100, H100 and B200 white papers and CUDA's table of compute capabilities; AMD's MI300X data sheet.
    "sm_80": Hardware(
        target="sm_80",
        processors=108,
        shared_bytes=163 << 10,
        tensor_descriptors=False,
        specialised_tile=0,
        float8=False,
    ),
    # Its compiler pass leaves eight warps as they are and fails on what four warps of products cannot hold.
    "sm_90": Hardware(
        target="sm_90",
        processors=132,
        shared_bytes=227 << 10,
        tensor_descriptors=True,
        specialised_tile=64 * 128,
        float8=True,
    ),
    "sm_100": Hardware(
        target="sm_100",
        processors=148,
        shared_bytes=227 << 10,
        tensor_descriptors=True,
        specialised_tile=128 * 256,
        float8=True,
    ),
    # Its float8 is another, float8_e4m3fnuz.
    "gfx942": Hardware(
        target="gfx942",
        processors=304,
        shared_bytes=64 << 10,
        tensor_descriptors=False,
        specialised_tile=0,
        float8=False,
        maker="amd",
    ),
}
INTERPRETER = Hardware(
    target="sm_90",
    processors=3,
    shared_bytes=227 << 10,
    tensor_descriptors=True,
    specialised_tile=128 * 256,
    float8=True,
)
"""Few processors, so that programs take several tiles each, and every path open."""

_assumed: ContextVar[Hardware | None] = ContextVar("_assumed", default=None)


@contextmanager
def assuming(hardware: Hardware) -> Iterator[None]:
    """Let `hardware` answer for another device than the one at hand."""
    token = _assumed.set(hardware)
    try:
        yield
    finally:
        _assumed.reset(token)


def hardware(device: torch.device) -> Hardware:
    """What is assumed, or else what the device says of itself; a CPU stands for Triton's interpreter."""
    assumed = _assumed.get()
    if assumed is not None:
        return assumed
    return _ask(device) if device.type == "cuda" else INTERPRETER


@cache
def _ask(device: torch.device) -> Hardware:
    properties = torch.cuda.get_device_properties(device)
    amd = torch.version.hip is not None
    modern = not amd and properties.major >= 9
    shared = getattr(properties, "shared_memory_per_block_optin", 0)
    return Hardware(
        target=_nearest(amd=amd, major=properties.major),
        processors=properties.multi_processor_count,
        shared_bytes=shared or HARDWARE["gfx942" if amd else "sm_80"].shared_bytes,
        tensor_descriptors=modern,
        specialised_tile=HARDWARE["sm_100" if properties.major >= 10 else "sm_90"].specialised_tile if modern else 0,
        float8=not amd and (properties.major, properties.minor) >= (8, 9),
        maker="amd" if amd else "nvidia",
    )


def _nearest(*, amd: bool, major: int) -> str:
    """The target of the same generation; Blackwell without tensor memory multiplies as Ampere does."""
    return "gfx942" if amd else {9: "sm_90", 10: "sm_100", 11: "sm_100"}.get(major, "sm_80")
