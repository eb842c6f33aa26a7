"""Tests of the names by which records and tuned tables identify a device."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from moebench.kernels.hardware import device_names as module
from moebench.kernels.hardware.device_names import cpu_name, device_name, driver

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
CPUINFO = """\
processor\t: 0
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC
stepping\t: 1
power management:

processor\t: 1
cpu family\t: 26
model\t\t: 99
model name\t: Another
stepping\t: 9
"""


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    module._nvidia_driver.cache_clear()
    yield
    module._nvidia_driver.cache_clear()


def test_cpu_name_tells_kinds_apart(tmp_path: Path) -> None:
    """The numbers of the first CPU follow its name."""
    file = tmp_path / "cpuinfo"
    file.write_text(CPUINFO)
    assert cpu_name(file) == "AMD EPYC (family 26, model 2, stepping 1)"
    file.write_text("processor: 0\nCPU part: 0xd4f\n")
    assert cpu_name(file).endswith("(part 0xd4f)")


def test_cpu_name_without_cpuinfo(tmp_path: Path) -> None:
    """Other systems give their own name for the processor, never an empty one."""
    assert cpu_name(tmp_path / "missing") in {platform.processor(), platform.machine()} - {""}


def test_each_kind_of_device_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"NVIDIA H100 {device.index}")
    assert device_name(CPU) == cpu_name()
    assert device_name(GPU) == "NVIDIA H100 0"
    assert device_name(torch.device("meta")) == "meta"


class NVMLError(Exception):
    pass


def test_the_driver_is_asked_once_and_only_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def version() -> str:
        asked.append(1)
        return "580.65.06"

    nvml: Any = SimpleNamespace(NVMLError=NVMLError, nvmlInit=lambda: None, nvmlSystemGetDriverVersion=version)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert driver(CPU) is None
    assert driver(GPU) == driver(GPU) == "580.65.06"
    assert len(asked) == 1


def test_without_nvml_linux_is_asked_and_else_the_driver_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise NVMLError

    monkeypatch.setattr(module, "_MODULE", tmp_path / "version")
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(NVMLError=NVMLError, nvmlInit=fails))
    assert driver(GPU) is None
    module._nvidia_driver.cache_clear()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert driver(GPU) is None
    (tmp_path / "version").write_text("580.65.06\n")
    assert driver(GPU) == "580.65.06", "the version of its kernel module"
    assert driver(CPU) is None
