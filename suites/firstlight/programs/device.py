"""Print the name of torch's first CUDA device; or why nothing should be measured on it, and end with ``UNFIT``."""

from __future__ import annotations

import sys

import torch

from ....results.timing.gpu_check import UnfitGpu, check_gpu, check_idle
from ..device_check import UNFIT

HELD_BYTES = 2 << 30  # that others may hold: about a quarter of it is the context of the process that asks


def main() -> None:
    """Print a line: to stdout the name, to stderr a reason with its remedy."""
    try:
        check_idle(0)  # before this process keeps the device busy itself
        check_gpu(0, wanted=1, instead="--rehearse")
        check_free(0)
    except UnfitGpu as error:
        print(error, file=sys.stderr)  # noqa: T201  # what it is for
        sys.exit(UNFIT)
    print(torch.cuda.get_device_name(0))  # noqa: T201  # what it is for


def check_free(index: int) -> None:
    """See that others hold next to nothing of the device's memory, which an open process may compute in at any time.

    Raises:
        UnfitGpu: when they hold more.
    """
    free, total = torch.cuda.mem_get_info(index)
    held = total - free - torch.cuda.memory_reserved(index)
    if held > HELD_BYTES:
        raise UnfitGpu(
            f"GPU {index} ({torch.cuda.get_device_name(index)}) is not free, others hold {held / (1 << 30):.1f} of its "
            f"{total / (1 << 30):.1f} GiB: end them, which nvidia-smi shows, or name another in CUDA_VISIBLE_DEVICES"
        )


if __name__ == "__main__":
    main()
