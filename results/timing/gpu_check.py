"""Check that a GPU can be measured on: if not, one line gives the reason and the remedy, before any measurement."""

from __future__ import annotations

import time
from typing import Final

import torch

from ...common.errors import UserError
from .nvml import NvmlTelemetry, connect

OLDEST: Final = (8, 0)  # compute capability of Ampere: bfloat16 on tensor cores, and copies past the registers
# NVML's nvmlComputeMode_t; 0 lets every process use the GPU.
MODES: Final = {1: "exclusive-thread", 2: "prohibited", 3: "exclusive-process"}
BUSY_PERCENT: Final = 10  # of the last moments; an idle device shows 0, one that draws a desktop a few
CALM_S: Final = 3.0  # NVML reports work that has just ended for about a second
POLL_S: Final = 0.25


class UnfitGpu(UserError, RuntimeError):
    """A GPU that cannot be measured on; the message names the GPU, the reason and the remedy."""


def check_gpu(index: int, wanted: int, instead: str = "--device cpu") -> None:
    """Open torch's CUDA device ``index``, of ``wanted`` devices in all; ``instead`` is the option that needs none.

    Raises:
        UnfitGpu: when it is missing, older than Ampere, without bfloat16, not to be shared, or does not open.
    """
    count = torch.cuda.device_count()
    if count <= index:
        raise UnfitGpu(f"torch sees {count} CUDA devices, {wanted} wanted; use {instead}")
    try:
        reason = _refusal(index, instead)
    except Exception as error:  # noqa: BLE001  # of torch's, the driver's or the device's: it does not open
        said = str(error).splitlines()[0]
        reason = (
            f"cannot be opened ({said}): end what holds it, which nvidia-smi shows, share it with "
            f"`nvidia-smi -i {index} -c DEFAULT`, or use {instead}"
        )
    if reason:
        raise UnfitGpu(f"GPU {index} {reason}")


def _refusal(index: int, instead: str) -> str | None:
    """Open the device; return why it cannot be measured on, or None."""
    name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    if capability < OLDEST:
        needs = "{}.{}, moebench measures from {}.{} (Ampere) on".format(*capability, *OLDEST)
        return f"({name}) has compute capability {needs}: use a newer GPU, or {instead}"
    telemetry = connect(index)
    mode = MODES.get(telemetry.compute_mode() or 0) if isinstance(telemetry, NvmlTelemetry) else None
    if mode:  # the command asks the device for its name, and each of its workers measures on it
        return (
            f"({name}) is in {mode} mode, moebench uses it from several processes: `nvidia-smi -i {index} -c DEFAULT`"
        )
    torch.zeros(1, device=f"cuda:{index}")
    torch.cuda.synchronize(index)
    with torch.cuda.device(index):
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            return f"({name}) has no products of bfloat16, which suites measure: use another GPU, or {instead}"
    return None


def check_idle(index: int) -> None:
    """Wait a moment until the device is idle; where NVML does not report it, the device counts as idle.

    Raises:
        UnfitGpu: when another process computes on it and does not stop.
    """
    telemetry = connect(index)
    if not isinstance(telemetry, NvmlTelemetry):
        return
    started = time.monotonic()
    while (percent := telemetry.busy_percent() or 0) >= BUSY_PERCENT:
        if time.monotonic() - started > CALM_S:
            raise UnfitGpu(
                f"GPU {index} ({torch.cuda.get_device_name(index)}) is busy, {percent} % of the time, with the work of "
                "others, and would give false times: end it, which nvidia-smi shows, or use another GPU"
            )
        time.sleep(POLL_S)
