"""Readings of an NVIDIA device: clocks, power, temperature, energy, and why it runs slower than it could.

Read through NVML by ``pynvml`` (package nvidia-ml-py, in the extra ``gpu``). Without it numbers are still
measured, but throttling is unknown: ``connect`` then returns a ``NoTelemetry`` with the reason.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from functools import partial
from types import ModuleType
from typing import Any, Final, Protocol, TypeVar

import torch

from ...common.errors import in_one_line
from ...common.packages import Unusable, use
from ..record import Clocks

T = TypeVar("T")

NVML_TICK_MS: Final = 100.0  # the energy counter moves every 20 to 100 ms


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
    """Readings of one device. None of them raises: a value that cannot be read is unknown."""

    @property
    def driver(self) -> str | None:
        """Version of the driver."""

    def throttle_reasons(self) -> list[str]:
        """Return why the clocks are below their maximum now; see ``SLOWDOWNS``. Empty where it is unknown."""

    def energy_j(self) -> float | None:
        """Return the joules since the driver was loaded; None where the device does not count them."""

    def state(self, energy_j: float | None) -> Clocks:
        """Return the present readings with the joules that one call took, and why some are missing."""


@dataclass(frozen=True)
class NoTelemetry:
    """Telemetry of a device that cannot be read, for ``reason``; nothing counts as throttled."""

    reason: str
    driver: None = None

    def throttle_reasons(self) -> list[str]:
        return []

    def energy_j(self) -> None:
        return None

    def state(self, energy_j: float | None) -> Clocks:
        return Clocks(unread=self.reason)


class NvmlTelemetry:
    """Readings of the device with this UUID (``GPU-…``) through an initialised ``pynvml``.

    A reading that fails is None, and the next one may succeed again; why the first one failed is kept.

    Raises:
        pynvml.NVMLError: when there is no such device, or the driver does not answer.
    """

    def __init__(self, nvml: ModuleType, uuid: str) -> None:
        self._nvml: Any = nvml
        self._device = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
        self._unread = ""
        self.driver: str = self._nvml.nvmlSystemGetDriverVersion()

    def throttle_reasons(self) -> list[str]:
        return self._reasons() or []

    def energy_j(self) -> float | None:
        return _thousandth(self._integer("nvmlDeviceGetTotalEnergyConsumption"))

    def state(self, energy_j: float | None) -> Clocks:
        return Clocks(
            sm_mhz=self._integer("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
            memory_mhz=self._integer("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),
            power_w=_thousandth(self._integer("nvmlDeviceGetPowerUsage")),
            temperature_c=self._integer("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
            throttle_reasons=self._reasons(),
            energy_j=energy_j,
            unread=self._unread,  # last: the readings above are among those it speaks of
        )

    def compute_mode(self) -> int | None:
        """Return the compute mode of the device, as NVML numbers it: 0 lets every process use it."""
        return self._integer("nvmlDeviceGetComputeMode")

    def busy_percent(self) -> int | None:
        """Return the percentage of the last second or less in which a kernel of any process ran."""
        return self._read("nvmlDeviceGetUtilizationRates", lambda rates: int(rates.gpu))

    def _reasons(self) -> list[str] | None:
        bits = self._integer("nvmlDeviceGetCurrentClocksEventReasons")
        return None if bits is None else [reason.name for reason in _Reason if bits & reason and reason.name]

    def _integer(self, function: str, *constants: str) -> int | None:
        return self._read(function, int, *constants)

    def _read(self, function: str, read: Callable[[Any], T], *constants: str) -> T | None:
        """Return the value that a function of NVML reads from the device, or None when it fails."""
        try:
            arguments = [getattr(self._nvml, constant) for constant in constants]
            return read(getattr(self._nvml, function)(self._device, *arguments))
        except self._nvml.NVMLError_NotSupported:
            return None
        except Exception as error:  # noqa: BLE001  # NVML's, and another version's that lacks the function
            self._unread = self._unread or f"{function} failed ({in_one_line(error)})"
            return None


def connect(index: int) -> NvmlTelemetry | NoTelemetry:
    """Return the readings of torch's CUDA device ``index``, or the reason why there are none.

    The UUID identifies it: NVML numbers all devices of the machine, torch those that CUDA_VISIBLE_DEVICES leaves.
    """
    try:
        nvml: Any = use("pynvml", partial(importlib.import_module, "pynvml"), remedy="pip install 'moebench[gpu]'")
    except Unusable as error:
        return NoTelemetry(str(error))
    device = f"device {index}"
    try:
        device = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
        nvml.nvmlInit()
        return NvmlTelemetry(nvml, device)
    except Exception as error:  # noqa: BLE001  # as above: without readings there are numbers all the same
        return NoTelemetry(f"NVML cannot read {device}: {in_one_line(error)}")


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1e3
