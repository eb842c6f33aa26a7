"""Names of devices, as records and tuned tables spell them."""

from __future__ import annotations

import importlib
import platform
from functools import cache
from pathlib import Path

import torch

from ...common.packages import Unusable, use

_CPUINFO = Path("/proc/cpuinfo")
_MODULE = Path("/sys/module/nvidia/version")


def device_name(device: torch.device) -> str:
    """Name of a GPU as its maker gives it, or of the CPU with the numbers that tell its kind."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name() if device.type == "cpu" else device.type


def cpu_name(cpuinfo: Path = _CPUINFO) -> str:
    """Name of the CPU with the numbers that tell its kind, since virtual machines cut the name short."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    first = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = first.get("model name") or platform.processor() or platform.machine()
    keys = {"family": "cpu family", "model": "model", "stepping": "stepping", "part": "CPU part"}
    numbers = ", ".join(f"{word} {first[key]}" for word, key in keys.items() if key in first)
    return f"{name} ({numbers})" if numbers else name


def driver(device: torch.device) -> str | None:
    """Release of the NVIDIA driver; None for other devices, and where neither NVML nor Linux tells it."""
    return (_nvidia_driver() or _loaded_module()) if device.type == "cuda" else None


def _loaded_module() -> str | None:
    """Return the version of the kernel module, which is the driver's release."""
    try:
        return _MODULE.read_text().strip() or None
    except OSError:
        return None


@cache
def _nvidia_driver() -> str | None:
    try:
        return use("pynvml", _ask_nvml, remedy="pip install 'moebench[gpu]'")
    except Unusable:
        return None


def _ask_nvml() -> str:
    nvml = importlib.import_module("pynvml")
    nvml.nvmlInit()
    return str(nvml.nvmlSystemGetDriverVersion())
