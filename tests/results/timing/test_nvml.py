"""Telemetry, through an injected ``pynvml`` that knows one device."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_nvml import UUID, FakeError, FakeNotSupported, FakeNvml

from moebench.results.record import Clocks
from moebench.results.timing.nvml import SLOWDOWNS, NoTelemetry, NvmlTelemetry, Telemetry, connect


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """NVML's device under torch's index 3, as where CUDA_VISIBLE_DEVICES reorders them; others are unknown to NVML."""
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=UUID if index == 3 else "other")
    )
    return fake


def test_readings_and_units(nvml: FakeNvml) -> None:
    """MHz, watts from milliwatts, joules from millijoules, the reasons by name."""
    nvml.reasons = 0x4 | 0x40
    telemetry: Telemetry = connect(3)
    assert isinstance(telemetry, NvmlTelemetry)
    assert telemetry.driver == "580.65.06"
    assert telemetry.energy_j() == 12.345
    state = telemetry.state(energy_j=0.25)
    assert state.model_dump() == {
        "sm_mhz": 1755,
        "memory_mhz": 2619,
        "power_w": 650.25,
        "temperature_c": 61,
        "throttle_reasons": ["sw_power_cap", "hw_thermal_slowdown"],
        "energy_j": 0.25,
        "unread": "",
    }


def test_slowdowns_are_exactly_four_of_the_reasons(nvml: FakeNvml) -> None:
    """Bit by bit against NVML's numbers: 0x8, 0x20, 0x40 and 0x80 slow the device down; an unknown bit is no reason."""
    telemetry = connect(3)
    slow = []
    for bit in range(12):
        nvml.reasons = 1 << bit
        if SLOWDOWNS.intersection(telemetry.throttle_reasons()):
            slow.append(1 << bit)
    assert slow == [0x8, 0x20, 0x40, 0x80]
    nvml.reasons = 0x8000
    assert telemetry.throttle_reasons() == []


def test_constants_are_those_of_the_real_library() -> None:
    """The bits that are told by name have NVML's numbers."""
    real = pytest.importorskip("pynvml")
    assert real.nvmlClocksEventReasonHwSlowdown == 0x8
    assert real.nvmlClocksEventReasonSwThermalSlowdown == 0x20
    assert real.nvmlClocksEventReasonHwThermalSlowdown == 0x40
    assert real.nvmlClocksEventReasonHwPowerBrakeSlowdown == 0x80


def test_a_device_without_energy_counter(nvml: FakeNvml) -> None:
    """An unsupported reading is unknown, and nothing has failed."""
    telemetry = connect(3)
    nvml.refuses["nvmlDeviceGetTotalEnergyConsumption"] = FakeNotSupported("Not Supported")
    assert telemetry.energy_j() is None
    assert telemetry.state(energy_j=None).unread == ""


READINGS = {
    "nvmlDeviceGetClockInfo": {"sm_mhz", "memory_mhz"},
    "nvmlDeviceGetPowerUsage": {"power_w"},
    "nvmlDeviceGetTemperature": {"temperature_c"},
    "nvmlDeviceGetCurrentClocksEventReasons": {"throttle_reasons"},
}


@pytest.mark.parametrize("error", [FakeError("GPU is lost\nline two"), AttributeError("no such function")], ids=str)
@pytest.mark.parametrize("function", READINGS)
def test_a_reading_that_fails_in_mid_run_is_not_known(nvml: FakeNvml, function: str, error: Exception) -> None:
    """The others are, and the record says why; when it succeeds again, what failed before is still told."""
    telemetry = connect(3)
    assert isinstance(telemetry, NvmlTelemetry)
    nvml.reasons = 0x40
    nvml.refuses[function] = error
    state = telemetry.state(energy_j=0.25)
    assert {name for name, value in state.model_dump().items() if value is None} == READINGS[function]
    assert state.unread == f"{function} failed ({type(error).__name__}: {str(error).splitlines()[0]})"
    del nvml.refuses[function]
    again = telemetry.state(energy_j=0.25)
    assert None not in again.model_dump().values()
    assert again.unread == state.unread


def test_what_slows_the_device_down_is_not_assumed(nvml: FakeNvml) -> None:
    """A sample whose throttling is not known is kept."""
    telemetry = connect(3)
    nvml.reasons = 0x40
    nvml.refuses["nvmlDeviceGetCurrentClocksEventReasons"] = FakeError("Unknown Error")
    assert telemetry.throttle_reasons() == []
    assert telemetry.state(energy_j=None).throttle_reasons is None


def test_the_energy_counter_that_fails_is_told(nvml: FakeNvml) -> None:
    telemetry = connect(3)
    nvml.refuses["nvmlDeviceGetTotalEnergyConsumption"] = FakeError("GPU is lost")
    assert telemetry.energy_j() is None
    assert "GPU is lost" in telemetry.state(energy_j=None).unread


@pytest.mark.usefixtures("nvml")
def test_the_device_is_found_by_its_uuid_or_refused() -> None:
    """An index whose UUID NVML does not know gets no other device's readings."""
    missing = connect(0)
    assert isinstance(missing, NoTelemetry)
    assert "GPU-other" in missing.reason


@pytest.mark.parametrize(
    "error", [FakeError("NVML Shared Library Not Found"), OSError("no libnvidia-ml.so.1")], ids=str
)
@pytest.mark.parametrize("function", ["nvmlInit", "nvmlSystemGetDriverVersion"])
def test_a_driver_that_refuses(nvml: FakeNvml, function: str, error: Exception) -> None:
    """A reason in words at the start, which every record then has; no error in a sample."""
    nvml.refuses[function] = error
    missing = connect(3)
    assert isinstance(missing, NoTelemetry)
    assert str(error) in missing.reason
    assert missing.state(energy_j=None) == Clocks(unread=missing.reason)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the remedy; nothing is throttled, nothing is known."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    missing = connect(0)
    assert isinstance(missing, NoTelemetry)
    assert "moebench[gpu]" in missing.reason
    assert _readings(missing) == (None, [], None, Clocks(unread=missing.reason))


def test_a_package_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pynvml.py").write_text("raise RuntimeError('built for another driver')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    missing = connect(0)
    assert isinstance(missing, NoTelemetry)
    assert "cannot be imported (RuntimeError: built for another driver)" in missing.reason


def _readings(telemetry: Telemetry) -> tuple[object, ...]:
    return telemetry.driver, telemetry.throttle_reasons(), telemetry.energy_j(), telemetry.state(energy_j=1.0)
