"""Environment of the measurements on a device of this machine."""

from __future__ import annotations

import torch

from ...kernels.cuda.nvrtc import ordering
from ...kernels.hardware.device_names import device_name, driver
from ...results.record import Environment
from ...results.record.environment import fingerprint


def environment_of(device: torch.device) -> Environment:
    """Return the name and driver of the device, the machine, and the versions of the software that runs on it."""
    cupy, routes_by = ordering(device)
    return fingerprint(
        "cuda" if device.type == "cuda" else "cpu",
        device=device_name(device),
        driver=driver(device),
        cupy=cupy,
        routes_by=routes_by,
    )
