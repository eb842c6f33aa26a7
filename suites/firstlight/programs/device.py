"""Check of torch's first CUDA device: prints its name, or why it cannot be measured on and exits with ``UNFIT``."""

from __future__ import annotations

import sys

import torch

from ....results.timing.gpu_check import UnfitGpu, check_gpu, check_idle
from ..device_check import UNFIT

HELD_BYTES = 2 << 30  # that other processes may hold; about a quarter of it is the context of this process


def main() -> None:
    """Print one line: the name to stdout, or a reason with its remedy to stderr."""
    try:
        check_idle(0)  # before this process keeps the device busy itself
        check_gpu(0, wanted=1, instead="--rehearse")
        check_free(0)
    except UnfitGpu as error:
        print(error, file=sys.stderr)  # noqa: T201  # the output of this program
        sys.exit(UNFIT)
    print(torch.cuda.get_device_name(0))  # noqa: T201  # the output of this program


def check_free(index: int) -> None:
    """Check that other processes hold almost none of the device's memory; those that do may start to compute any time.

    Raises:
        UnfitGpu: when they hold more than ``HELD_BYTES``.
    """
    free, total = torch.cuda.mem_get_info(index)
    held = total - free - torch.cuda.memory_reserved(index)
    if held > HELD_BYTES:
        raise UnfitGpu(
            f"GPU {index} ({torch.cuda.get_device_name(index)}) is not free, other processes hold "
            f"{held / (1 << 30):.1f} of its {total / (1 << 30):.1f} GiB: end them (nvidia-smi lists them) or "
            "name another device in CUDA_VISIBLE_DEVICES"
        )


if __name__ == "__main__":
    main()
