"""Check of a CUDA device before a session, made in another process, because this one must not hold a part of it."""

from __future__ import annotations

import subprocess
import sys

from ...common.errors import UserError

LIMIT_S = 40.0  # importing torch from a cold disk takes half a minute
UNFIT = 3  # exit code of the program that asks; Python's own for what it does not catch is 1


class DeviceError(UserError):
    """There is no device to hold a session on; the message says why, and the remedy."""


def fit() -> str:
    """Return the name of torch's first CUDA device once it has passed the check.

    Raises:
        DeviceError: when there is none, it should not be measured on, or torch does not answer.
    """
    command = [sys.executable, "-m", f"{__package__}.programs.device"]
    try:
        # The command is this python and a module of this package.
        answer = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"torch does not say within {LIMIT_S:g} s whether it sees a CUDA device: does nvidia-smi answer?"
        ) from error
    if answer.returncode == 0:
        return answer.stdout.splitlines()[-1]
    last = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
    if answer.returncode == UNFIT:
        raise DeviceError(last)
    raise DeviceError(f"torch cannot be asked for a CUDA device ({last}): mend its installation")
