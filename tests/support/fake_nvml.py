"""A ``pynvml`` that knows one device, whose readings may fail."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from types import ModuleType, SimpleNamespace

UUID = "0f1e2d3c-aaaa-bbbb-cccc-000000000001"


class FakeError(Exception):
    """Error of NVML."""


class FakeNotSupported(FakeError):
    """Error of NVML for a reading that the device does not have."""


class FakeNvml(ModuleType):
    """Fake ``pynvml`` with one device; ``refuses`` maps functions to the error that they raise."""

    NVMLError = FakeError
    NVMLError_NotSupported = FakeNotSupported
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.refuses: dict[str, Exception] = {}
        self.reasons = 0
        self.mode = 0
        self.busy: Iterator[int] = repeat(0)
        self.initialised = False

    def _check(self, name: str) -> None:
        if name in self.refuses:
            raise self.refuses[name]

    def nvmlInit(self) -> None:
        self._check("nvmlInit")
        self.initialised = True

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        assert self.initialised
        if uuid != f"GPU-{UUID}":
            raise FakeError("Not Found")
        return "handle"

    def nvmlSystemGetDriverVersion(self) -> str:
        self._check("nvmlSystemGetDriverVersion")
        return "580.65.06"

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        self._check("nvmlDeviceGetClockInfo")
        return {self.NVML_CLOCK_SM: 1755, self.NVML_CLOCK_MEM: 2619}[kind]

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        self._check("nvmlDeviceGetPowerUsage")
        return 650_250

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        self._check("nvmlDeviceGetTemperature")
        return 61

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        self._check("nvmlDeviceGetCurrentClocksEventReasons")
        return self.reasons

    def nvmlDeviceGetComputeMode(self, handle: str) -> int:
        self._check("nvmlDeviceGetComputeMode")
        return self.mode

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        self._check("nvmlDeviceGetUtilizationRates")
        return SimpleNamespace(gpu=next(self.busy), memory=3)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        self._check("nvmlDeviceGetTotalEnergyConsumption")
        return 12_345
