"""What an NVIDIA device says about itself: clocks, power, temperature, energy, and why it runs slower than it could.

Read through NVML by ``pynvml`` (package nvidia-ml-py, in the extra ``gpu``). Without it there are numbers all the same,
but nobody knows whether the device was throttled: ``connect`` then returns a ``NoTelemetry`` that says why.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from enum import IntFlag
from types import ModuleType
from typing import Any, Final, Protocol

import torch

from .record import Clocks


class _Reason(IntFlag):
    """Why the clocks are what they are: NVML's ``nvmlClocksEventReason`` bits."""

    gpu_idle = 0x1
    application_clocks = 0x2
    sw_power_cap = 0x4
    hw_slowdown = 0x8
    sync_boost = 0x10
    sw_thermal_slowdown = 0x20
    hw_thermal_slowdown = 0x40
    hw_power_brake = 0x80
    display_clocks = 0x100


SLOWDOWNS: Final = frozenset(
    {
        "hw_slowdown",  # the hardware halves the clock or worse, for heat or for the power supply
        "hw_thermal_slowdown",  # the same, for heat
        "hw_power_brake",  # the same, at the server's demand
        "sw_thermal_slowdown",  # the driver keeps the device from overheating; a cooler minute gives another number
    }
)
"""Reasons that make a sample unfit: they pass, and the same call is then faster.

``sw_power_cap`` is none of them: a large matmul runs at the board's power limit in all its working life, and without
those samples there would be none. Idle, application and display clocks and sync boost are settings, the same for every
competitor. All reasons go into the record.
"""


class Telemetry(Protocol):
    """Readings of one device."""

    @property
    def driver(self) -> str | None:
        """Version of the driver."""

    def throttle_reasons(self) -> list[str]:
        """Why the clocks are not at their highest just now; see ``SLOWDOWNS``."""

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded; None where the device does not count them."""

    def state(self, energy_j: float | None) -> Clocks | None:
        """The readings of this moment with the joules that one call took; None where there are no readings."""


@dataclass(frozen=True)
class NoTelemetry:
    """Nothing is known about the device, for ``reason``; nothing counts as throttled."""

    reason: str
    driver: None = None

    def throttle_reasons(self) -> list[str]:
        return []

    def energy_j(self) -> None:
        return None

    def state(self, energy_j: float | None) -> None:
        return None


class NvmlTelemetry:
    """Readings of the device with this UUID (``GPU-…``) through an initialised ``pynvml``.

    Raises:
        pynvml.NVMLError: from any reading that the driver refuses, and when there is no such device.
    """

    def __init__(self, nvml: ModuleType, uuid: str) -> None:
        self._nvml: Any = nvml
        self._device = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
        self.driver: str = self._nvml.nvmlSystemGetDriverVersion()

    def throttle_reasons(self) -> list[str]:
        bits = self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._device)
        return [reason.name for reason in _Reason if bits & reason and reason.name]

    def energy_j(self) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device)) / 1e3
        except self._nvml.NVMLError_NotSupported:
            return None

    def state(self, energy_j: float | None) -> Clocks:
        nvml, device = self._nvml, self._device
        return Clocks(
            sm_mhz=nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
            memory_mhz=nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM),
            power_w=nvml.nvmlDeviceGetPowerUsage(device) / 1e3,
            temperature_c=nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
            throttle_reasons=self.throttle_reasons(),
            energy_j=energy_j,
        )


def connect(index: int) -> NvmlTelemetry | NoTelemetry:
    """Readings of torch's CUDA device ``index``, or the reason why there are none.

    Found by its UUID: NVML numbers all devices of the machine, torch those that CUDA_VISIBLE_DEVICES leaves.
    """
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return NoTelemetry("nvidia-ml-py is not installed; install moebench[gpu]")
    uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
    try:
        nvml.nvmlInit()
        telemetry = NvmlTelemetry(nvml, uuid)
        telemetry.state(energy_j=None)
    except nvml.NVMLError as error:
        return NoTelemetry(f"NVML cannot read device {uuid}: {error}")
    return telemetry
