"""Limits of the device at hand, of the one that is assumed in its place, or of Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch

from .gpus import HARDWARE, Hardware

INTERPRETER = Hardware(
    target="sm_90",
    processors=3,
    shared_bytes=227 << 10,
    tensor_descriptors=True,
    specialised_tile=128 * 256,
    float8=True,
)
"""It has few processors, so that a program takes several tiles, and everything that a GPU can do."""

_assumed: ContextVar[Hardware | None] = ContextVar("_assumed", default=None)


@contextmanager
def assuming(hardware: Hardware) -> Iterator[None]:
    """Use these limits in place of those of the device at hand, as long as the context lasts."""
    token = _assumed.set(hardware)
    try:
        yield
    finally:
        _assumed.reset(token)


def hardware(device: torch.device) -> Hardware:
    """Return the assumed limits, or those that the driver reports of a GPU; a CPU has those of Triton's interpreter."""
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
    """Return the target of the same generation; Blackwell without tensor memory multiplies as Ampere does."""
    return "gfx942" if amd else {9: "sm_90", 10: "sm_100", 11: "sm_100"}.get(major, "sm_80")
