"""Description of a device: versions, readings of its clocks and the time each takes, and the rates behind a bound."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from ....execution.workers.worker import DeviceType
from ....kernels.hardware.device_limits import hardware
from ....kernels.hardware.device_names import device_name, driver
from ....results.record.environment import commit, fingerprint
from ....results.timing.nvml import NoTelemetry, Telemetry, connect
from ....results.timing.roofline import MachineRates
from ..forms import form

READINGS = 10
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def main() -> None:
    """Read the arguments, the form and the JSON file to write, and rewrite the file after every fact found."""
    name, path = sys.argv[1:]
    chosen = form(name)
    found: dict[str, object] = {}
    for part, value in parts(chosen.device):
        found[part] = value
        Path(path).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(f"{part}: {json.dumps(value)}")  # noqa: T201  # the log


def parts(kind: DeviceType) -> Iterator[tuple[str, object]]:
    """Yield the facts about the device, the quickest first."""
    device = torch.device(kind)
    yield "environment", fingerprint(kind, device=device_name(device), driver=driver(device)).model_dump()
    yield "commit", commit()
    yield "hardware", asdict(hardware(device))
    yield "telemetry", telemetry(device)
    machine = MachineRates(device)
    for dtype in DTYPES:
        roofline = machine.roofline(dtype)
        yield str(dtype).removeprefix("torch."), {"matmul_tflop_per_s": round(roofline.flops_per_s / 1e12, 3)}
        rates = machine.memory
        yield "memory", {"copy_gb_per_s": round(rates.copy / 1e9, 1), "read_gb_per_s": round(rates.read / 1e9, 1)}


def telemetry(device: torch.device) -> dict[str, object]:
    """Read the device's clocks, power and temperature several times; return the readings and their durations."""
    if device.type != "cuda":
        return {"reason": f"a device of type {device.type} has no telemetry"}
    source: Telemetry = connect(device.index or 0)
    if isinstance(source, NoTelemetry):
        return {"reason": source.reason}
    states, milliseconds = [], []
    for _ in range(READINGS):
        started = time.perf_counter()
        state = source.state(energy_j=source.energy_j())
        milliseconds.append(round(1e3 * (time.perf_counter() - started), 3))
        states.append(state.model_dump())
    return {"median_ms": statistics.median(milliseconds), "ms": milliseconds, "states": states}


if __name__ == "__main__":
    main()
