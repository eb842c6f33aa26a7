"""The energy counter of the device that calls run on, where it has one that may be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..nvml import NVML_TICK_MS, connect
from .rapl import RAPL_TICK_MS, RaplEnergy


@dataclass(frozen=True, kw_only=True)
class EnergyCounter:
    """Counter of the joules that a device uses.

    ``device`` names what it counts: two counters of one name on one machine are the same. Its value moves every
    ``tick_ms`` at the latest. ``read`` returns joules since some moment, None where a reading fails.
    """

    device: str
    tick_ms: float
    read: Callable[[], float | None]


def energy_counter(device: torch.device) -> EnergyCounter | None:
    """Return the counter of a device: NVML's of a GPU, RAPL's of the packages of a CPU; None without one."""
    if device.type == "cuda":
        name = str(torch.cuda.get_device_properties(device).uuid)
        counter = EnergyCounter(device=name, tick_ms=NVML_TICK_MS, read=connect(device.index or 0).energy_j)
        return counter if counter.read() is not None else None
    if (packages := RaplEnergy.found()) is None:
        return None
    return EnergyCounter(device="packages", tick_ms=RAPL_TICK_MS, read=packages.energy_j)
