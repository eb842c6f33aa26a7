"""Whether a CUDA device is fit for a session, asked in another process: this one must not hold a part of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

LIMIT_S = 40.0  # importing torch from a cold disk takes half a minute
OLDEST = (8, 0)  # Triton's asynchronous copies and products of bfloat16 begin with Ampere
BUSY_BYTES = 2 << 30  # that others may hold: about a quarter of it is the context of the process that asks
BUSY_PERCENT = 20  # of the time that kernels of others may run
EXCLUSIVE = {2: "prohibited", 3: "exclusive"}  # CUDA's CUcomputemode; 0 lets several processes in


class DeviceError(Exception):
    """There is no device to hold a session on; the message says why, and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Properties:
    """A CUDA device as it is just now.

    ``capability`` is its compute capability, ``bf16`` whether it multiplies bfloat16, ``compute_mode`` CUDA's number
    for who may use it, ``held_bytes`` of ``total_bytes`` are others', ``busy_percent`` of the last second kernels ran
    (None where nobody can say), ``error`` what using it raised, in one line.
    """

    name: str
    capability: tuple[int, int] = OLDEST
    bf16: bool = True
    compute_mode: int = 0
    held_bytes: int = 0
    total_bytes: int = 0
    busy_percent: int | None = None
    error: str = ""


def refusal(device: Properties) -> str | None:
    """None, or why nothing should be measured on a device, with what to do about it."""
    others = "end the other processes, or name another device in CUDA_VISIBLE_DEVICES"
    mode = EXCLUSIVE.get(device.compute_mode)
    major, minor = device.capability
    gib = 1 << 30
    faults = (
        (device.capability < OLDEST, f"has compute capability {major}.{minor}: the kernels want 8.0 or later"),
        (not device.bf16, "has no products of bfloat16: use one of compute capability 8.0 or later"),
        (
            mode is not None,
            f"is in compute mode {mode}, and a session is several processes: nvidia-smi --compute-mode=DEFAULT",
        ),
        (bool(device.error), f"cannot be used ({device.error}): {others}"),
        (
            device.held_bytes > BUSY_BYTES,
            f"is busy, others hold {device.held_bytes / gib:.1f} of its {device.total_bytes / gib:.1f} GiB: {others}",
        ),
        (
            (device.busy_percent or 0) > BUSY_PERCENT,
            f"is busy, kernels ran in {device.busy_percent} % of the last second: {others}",
        ),
    )
    return next((f"{device.name} {reason}" for broken, reason in faults if broken), None)


def fit() -> Properties:
    """Torch's first CUDA device, which nothing speaks against.

    Raises:
        DeviceError: when there is none, or it should not be measured.
    """
    found = ask()
    if found is None:
        raise DeviceError("torch sees no CUDA device; --rehearse goes through every step without one")
    if reason := refusal(found):
        raise DeviceError(reason)
    return found


def ask() -> Properties | None:
    """The properties of torch's first CUDA device, None where it sees none.

    Raises:
        DeviceError: when torch does not answer.
    """
    command = [sys.executable, "-m", f"{__package__}.programs.device"]
    try:
        # The command is this python and a module of this package.
        answer = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"torch does not say within {LIMIT_S:g} s whether it sees a CUDA device: does nvidia-smi answer?"
        ) from error
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
        raise DeviceError(f"torch cannot be asked for a CUDA device ({last}): mend its installation")
    found = json.loads(answer.stdout.splitlines()[-1])
    return None if found is None else Properties(**{**found, "capability": tuple(found["capability"])})
