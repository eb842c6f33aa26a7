"""Check of a CUDA device before a session, in another process, so that this one holds none of its memory."""

from __future__ import annotations

import subprocess
import sys

from ...common.errors import UserError

LIMIT_S = 40.0  # importing torch from a cold disk takes half a minute
UNFIT = 3  # exit code of programs/device.py for an unfit device; 1 is Python's for any other error


class DeviceError(UserError):
    """No device that a session can use; the message gives the reason and the remedy."""


def fit() -> str:
    """Return the name of torch's first CUDA device once it has passed the check.

    Raises:
        DeviceError: when there is no device, it fails the check, or torch does not answer.
    """
    command = [sys.executable, "-m", f"{__package__}.programs.device"]
    try:
        # The command is this Python and a module of this package.
        answer = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"torch did not answer within {LIMIT_S:g} s whether it sees a CUDA device: check that nvidia-smi answers"
        ) from error
    if answer.returncode == 0:
        return answer.stdout.splitlines()[-1]
    last = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
    if answer.returncode == UNFIT:
        raise DeviceError(last)
    raise DeviceError(f"torch cannot look for a CUDA device ({last}): repair its installation")
