"""Setting up one rank: its device, its share of the cores, its place in the process group."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist

from ...common.cores import usable_cores
from ...results.record import CacheState
from ...results.timing.clock import Clock, CpuClock, last_level_cache_bytes
from ...results.timing.cuda_clock import ColdCudaClock, HotCudaClock, TorchCudaDevice
from ...results.timing.eager_clock import EagerClock
from ...results.timing.gpu_check import check_gpu, check_idle
from ...results.timing.memory import keep_freed_memory
from ...results.timing.nvml import connect
from ..trial.across_ranks import in_step, slowest
from ..trial.trial import TrialRunner
from .rendezvous import RankInfo, Rendezvous
from .rendezvous_store import open_store

COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # the parent's own limits come first; this one only ends orphans


def open_device(device_type: Literal["cpu", "cuda"], local_rank: int = 0, local_ranks: int = 1) -> torch.device:
    """Set torch up for measuring, and say on which of the machine's devices.

    Raises:
        UnfitGpu: when the GPU is not there or cannot be measured on.
    """
    if device_type == "cuda":
        check_gpu(local_rank, local_ranks)
        torch.cuda.set_device(local_rank)
        torch.backends.cuda.matmul.allow_tf32 = False
        return torch.device("cuda", local_rank)
    torch.set_num_threads(max(1, len(usable_cores()) // local_ranks))
    keep_freed_memory()
    return torch.device("cpu")


def open_trial_runner(
    seat: RankInfo, device_type: Literal["cpu", "cuda"], meeting: Rendezvous, *, alone: bool
) -> TrialRunner:
    """A bench for this process, which takes ``seat`` in the process group that meets at ``meeting``.

    It is to have its GPU ``alone``, or takes turns with others.

    Raises:
        UnfitGpu: when this rank's GPU is not there or cannot be measured on.
    """
    if device_type == "cuda" and alone:
        check_idle(seat.local_rank)
    device = open_device(device_type, seat.local_rank, seat.local_ranks)
    if seat.ranks > 1:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo",
            store=open_store(meeting),
            rank=seat.rank,
            world_size=seat.ranks,
            timeout=COLLECTIVE_TIMEOUT,
        )
    return TrialRunner(device, clocks_of(device))


def joined_collectives() -> int:
    """How many collectives this rank has joined, of all its process groups; any thread may ask."""
    # torch counts them for its own diagnosis of hangs, and has no public name for the count.
    groups = dist.distributed_c10d._world.pg_map if dist.is_initialized() else ()  # noqa: SLF001
    return sum(
        group._get_sequence_number_for_group()  # type: ignore[attr-defined]  # noqa: SLF001
        for group in tuple(groups)
    )


def clocks_of(device: torch.device) -> Mapping[CacheState, Clock]:
    """The clocks that there are for a device, the current one of torch where it is a GPU."""
    if device.type == "cpu":
        eager = EagerClock(last_level_cache_bytes(), None, wait=lambda: None, slowest=slowest)
        return {"cold": CpuClock(in_step), "eager": eager}
    cuda, telemetry = TorchCudaDevice(), connect(device.index)
    return {
        "cold": ColdCudaClock(cuda, telemetry),
        "hot": HotCudaClock(cuda, telemetry),
        "eager": EagerClock(cuda.l2_bytes, telemetry, wait=cuda.synchronize, slowest=slowest),
    }
