"""Print the properties of torch's first CUDA device as JSON, or null where it sees none."""

from __future__ import annotations

import ctypes
import importlib
import json
from dataclasses import asdict

import torch

from ....autotune.failure import first_line
from ..device import Properties

COMPUTE_MODE = 20  # CUDA's CU_DEVICE_ATTRIBUTE_COMPUTE_MODE


def main() -> None:
    """Print a line of JSON."""
    print(json.dumps(asdict(properties()) if torch.cuda.is_available() else None))  # noqa: T201  # what it is for


def properties() -> Properties:
    """The first device; what fails while it is used for the first time is a property as well."""
    found = torch.cuda.get_device_properties(0)
    held = total = 0
    error = ""
    percent = busy_percent(f"GPU-{found.uuid}")  # before this process uses it
    try:
        torch.ones(1, device="cuda").add_(1).item()
        free, total = torch.cuda.mem_get_info(0)
        held = total - free - torch.cuda.memory_reserved(0)
    except Exception as raised:  # noqa: BLE001  # whatever the driver says is the answer
        error = first_line(raised)
    return Properties(
        name=found.name,
        capability=(found.major, found.minor),
        bf16=torch.cuda.is_bf16_supported(including_emulation=False),
        compute_mode=compute_mode(),
        held_bytes=held,
        total_bytes=total,
        busy_percent=percent,
        error=error,
    )


def compute_mode() -> int:
    """Who may use the first visible device, by the driver's own library; 0 where it is not NVIDIA's."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    device, mode = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return 0
    driver.cuDeviceGetAttribute(ctypes.byref(mode), COMPUTE_MODE, device)
    return mode.value


def busy_percent(uuid: str) -> int | None:
    """Share of the last second in which kernels ran; None where NVML cannot say."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        return int(nvml.nvmlDeviceGetUtilizationRates(nvml.nvmlDeviceGetHandleByUUID(uuid)).gpu)
    except Exception:  # noqa: BLE001  # not installed, broken, or not allowed: it is only asked to be on the safe side
        return None


if __name__ == "__main__":
    main()
