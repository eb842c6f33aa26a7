"""Set-up of one rank: its device, its share of the cores, its place in the process group, its clocks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist

from ...common.cores import roaming, usable_cores
from ...results.record import CacheState
from ...results.timing.clock import Clock
from ...results.timing.cpu_cache import last_level_cache_bytes
from ...results.timing.cpu_clock import CpuClock
from ...results.timing.cuda_clock import ColdCudaClock, HotCudaClock, TorchCudaDevice
from ...results.timing.disturbance import Watch
from ...results.timing.eager_clock import EagerClock
from ...results.timing.energy.energy_counter import energy_counter
from ...results.timing.gpu_check import check_gpu, check_idle
from ...results.timing.memory import keep_freed_memory
from ...results.timing.nvml import connect
from ..trial.across_ranks import in_step, processes_here, slowest
from ..trial.trial import TrialRunner
from .rendezvous import RankInfo, Rendezvous
from .rendezvous_store import open_store

COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # the parent's own limits come first; this one only ends orphans


def open_device(device_type: Literal["cpu", "cuda"], local_rank: int = 0, local_ranks: int = 1) -> torch.device:
    """Set torch up for measuring on the device of ``local_rank``, and return the device.

    Raises:
        UnfitGpu: when the GPU is missing or cannot be measured on.
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
    info: RankInfo, device_type: Literal["cpu", "cuda"], rendezvous: Rendezvous, *, alone: bool
) -> TrialRunner:
    """Set up this process as the rank of ``info`` in the process group of ``rendezvous``; return its trial runner.

    ``alone`` demands that no other process uses the GPU; it is false where runs are interleaved.

    Raises:
        UnfitGpu: when this rank's GPU is missing or cannot be measured on.
    """
    if device_type == "cuda" and alone:
        check_idle(info.local_rank)
    device = open_device(device_type, info.local_rank, info.local_ranks)
    if info.ranks > 1:
        with roaming():  # the threads of gloo send while those of OpenMP compute
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo",
                store=open_store(rendezvous),
                rank=info.rank,
                world_size=info.ranks,
                timeout=COLLECTIVE_TIMEOUT,
            )
    watch = Watch(processes_here())
    return TrialRunner(device, clocks_of(device, watch), watch, energy_counter(device))


def joined_collectives() -> int:
    """Return how many collectives this rank has joined, in all its process groups; any thread may call it."""
    # torch counts them for its own diagnosis of hangs, and has no public name for the count.
    groups = dist.distributed_c10d._world.pg_map if dist.is_initialized() else ()  # noqa: SLF001
    return sum(
        group._get_sequence_number_for_group()  # type: ignore[attr-defined]  # noqa: SLF001
        for group in tuple(groups)
    )


def clocks_of(device: torch.device, watch: Watch) -> Mapping[CacheState, Clock]:
    """Return the clocks of a device, which is torch's current one where it is a GPU, with the watch of its host."""
    if device.type == "cpu":
        eager = EagerClock(last_level_cache_bytes(), None, wait=lambda: None, slowest=slowest, watch=watch)
        return {"cold": CpuClock(in_step, watch), "eager": eager}
    cuda, telemetry = TorchCudaDevice(), connect(device.index)
    return {
        "cold": ColdCudaClock(cuda, telemetry),
        "hot": HotCudaClock(cuda, telemetry),
        "eager": EagerClock(cuda.l2_bytes, telemetry, wait=cuda.synchronize, slowest=slowest, watch=watch),
    }
