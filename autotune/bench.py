"""Setting up one rank: its device, its share of the cores, its place in the process group."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist

from ..results.clock import Clock, CpuClock
from ..results.cuda import ColdCudaClock, HotCudaClock, TorchCudaDevice
from ..results.environment import usable_cores
from ..results.memory import keep_freed_memory
from ..results.nvml import connect
from .trial import Bench

COLLECTIVE_TIMEOUT = timedelta(minutes=10)  # the parent's own limit comes first; this one only ends orphans


def open_bench(rank: int, ranks: int, device_type: Literal["cpu", "cuda"], rendezvous: Path) -> Bench:
    """A bench for this process, which becomes ``rank`` of ``ranks`` that meet at the file ``rendezvous``.

    Raises:
        RuntimeError: when torch sees fewer CUDA devices than there are ranks.
    """
    if device_type == "cuda":
        if torch.cuda.device_count() <= rank:
            raise RuntimeError(f"torch sees {torch.cuda.device_count()} CUDA devices, {ranks} wanted; use --device cpu")
        torch.cuda.set_device(rank)
        torch.backends.cuda.matmul.allow_tf32 = False
        device = torch.device("cuda", rank)
    else:
        torch.set_num_threads(max(1, len(usable_cores()) // ranks))
        device = torch.device("cpu")
        keep_freed_memory()
    if ranks > 1:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo",
            init_method=rendezvous.as_uri(),
            rank=rank,
            world_size=ranks,
            timeout=COLLECTIVE_TIMEOUT,
        )
    return Bench(device, _clocks(device))


def _clocks(device: torch.device) -> Mapping[Literal["cold", "hot"], Clock]:
    if device.type == "cpu":
        return {"cold": CpuClock()}
    cuda, telemetry = TorchCudaDevice(), connect(device.index)
    return {"cold": ColdCudaClock(cuda, telemetry), "hot": HotCudaClock(cuda, telemetry)}
