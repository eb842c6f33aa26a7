"""Executors on this machine: a slot for each GPU, or the cores of the CPU in one slot or in equal shares."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .affinity import ALL_DEVICES, Affinity, Cores, Gpus
from .executor import Executor, ExecutorError
from .local_worker import LocalWorkers
from .supervisor import Supervisor
from .worker import DeviceType, WorkerProvider


def local_executor(
    device_type: DeviceType, kernels: Sequence[str], ranks: int = 1, *, slots: int | None = None
) -> Executor:
    """Return an executor on the devices of this machine, for problems of ``ranks`` ranks.

    On GPUs each slot has ``ranks`` of those that CUDA_VISIBLE_DEVICES leaves, and there are as many slots as find room,
    or ``slots``. On a CPU there is one slot with all cores, or ``slots`` with as many cores each; as they share caches
    and memory, their times are those of a busy machine. ``kernels`` are what the workers import when they start.

    Raises:
        ExecutorError: when there are fewer devices or cores than the slots need.
    """
    if device_type == "cuda":
        return Executor(_supervisors(device_type, kernels, ranks, _gpus(ranks, slots)), most_ranks=ranks)
    shares = _cores(slots or 1)
    return Executor(_supervisors(device_type, kernels, ranks, shares), most_ranks=None if len(shares) == 1 else 1)


def one_slot(device_type: DeviceType, provider: WorkerProvider, kernels: Sequence[str], ranks: int = 1) -> Executor:
    """Return an executor of one slot, whose workers ``provider`` starts."""
    return Executor({"the only slot": Supervisor(device_type, kernels, provider, ranks)})


def _supervisors(
    device_type: DeviceType, kernels: Sequence[str], ranks: int, affinities: Mapping[str, Affinity]
) -> dict[str, Supervisor]:
    return {
        name: Supervisor(device_type, kernels, LocalWorkers(affinity), ranks) for name, affinity in affinities.items()
    }


def _gpus(ranks: int, slots: int | None) -> Mapping[str, Affinity]:
    import torch  # noqa: PLC0415  # without a GPU this process needs no torch

    count = torch.cuda.device_count()  # makes no context: the memory and the device belong to the workers
    wanted = ranks * (slots or 1)
    if count < wanted:
        remedy = "use --device cpu" if count < ranks else f"give --slots {count // ranks} or fewer"
        raise ExecutorError(f"torch sees {count} CUDA devices, {wanted} wanted; {remedy}")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count)] if visible is None else [n.strip() for n in visible.split(",")]
    groups = [tuple(names[first : first + ranks]) for first in range(0, count - ranks + 1, ranks)]
    return {f"GPU {', '.join(group)}": Gpus(group) for group in groups[:slots]}


def _cores(slots: int) -> Mapping[str, Affinity]:
    if slots == 1:
        return {"the CPU": ALL_DEVICES}
    if not hasattr(os, "sched_setaffinity"):
        raise ExecutorError(f"{slots} slots need cores of their own, which only Linux gives: ask for one slot")
    if (usable := len(os.sched_getaffinity(0))) < slots:
        raise ExecutorError(f"{slots} slots need a core each, this process may use {usable}: ask for fewer slots")
    return {f"share {number} of the CPU": Cores(number, slots) for number in range(slots)}
